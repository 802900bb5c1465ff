-- People: accounts, sessions, second factors, and what is on its way to them. What is personal is sealed (libs/seal), bound to
-- table, column and the row's id; what it is looked up by is a keyed hash. Of tokens only digests are kept.

create table identity.users (
    id uuid primary key,
    -- Keyed hash of the normalised address. Null: erased.
    email_hash bytea,
    -- Sealed, as the next one.
    email bytea,
    display_name bytea,
    -- A PHC string of argon2id. Null: signs in by a provider alone.
    password text,
    -- Sealed. Null: no second factor was begun.
    totp_secret bytea,
    -- Null: begun and not confirmed.
    totp_enable_micros bigint,
    -- The time step of the last code that was taken: neither it nor an earlier one is taken again.
    totp_step bigint not null default 0,
    create_micros bigint not null,
    update_micros bigint not null,
    -- Null: not erased. An erased row keeps its id and times alone.
    erase_micros bigint,
    -- Grows with every change; shown as the etag.
    version bigint not null
);
create unique index users_by_email on identity.users (email_hash);

-- Accounts that were asked for and whose address is not proved. Purged when they expire.
create table identity.sign_ups (
    id uuid primary key,
    email_hash bytea not null,
    -- Sealed, as the next one.
    email bytea not null,
    display_name bytea not null,
    -- A PHC string of argon2id.
    password text not null,
    -- SHA-256 of the token of the latest mail. Null: none was sent yet.
    token_digest bytea,
    expire_micros bigint not null
);
create unique index sign_ups_by_token on identity.sign_ups (token_digest);
create index sign_ups_by_email on identity.sign_ups (email_hash);
create index sign_ups_by_expiry on identity.sign_ups (expire_micros);

-- What a user was given to use once, such as the token of a password reset.
create table identity.user_tokens (
    -- SHA-256.
    digest bytea primary key,
    -- 1: password reset. 2: second step of a sign-in. 3: link to a provider's account.
    kind smallint not null,
    user_id uuid not null references identity.users (id),
    -- What else it stands for, sealed under the digest. Null: nothing.
    payload bytea,
    -- How often it was answered wrongly.
    failures integer not null default 0,
    expire_micros bigint not null
);
create index user_tokens_of_user on identity.user_tokens (user_id);
create index user_tokens_by_expiry on identity.user_tokens (expire_micros);

-- Keyed hashes of the codes that are not used up.
create table identity.recovery_codes (
    user_id uuid not null references identity.users (id),
    code_hash bytea not null,
    primary key (user_id, code_hash)
);

-- Sessions that last. One that ends is deleted: its old tokens prove themselves (auth::RefreshToken), and find nothing.
create table identity.sessions (
    id uuid primary key,
    user_id uuid not null references identity.users (id),
    -- SHA-256 of the refresh token that holds.
    token_digest bytea not null,
    -- Of the one before, the request id that replaced it, and what was answered, sealed: for whoever lost that answer.
    previous_digest bytea,
    refresh_request uuid,
    refresh_answer bytea,
    -- Sealed. What the client called itself.
    label bytea not null,
    create_micros bigint not null,
    refresh_micros bigint not null,
    -- When it ends if it is not refreshed.
    expire_micros bigint not null
);
create index sessions_of_user on identity.sessions (user_id, refresh_micros);
create index sessions_by_expiry on identity.sessions (expire_micros);

-- What access tokens are signed with. Deleted when the last token that a key signed has expired.
create table identity.signing_keys (
    kid text primary key,
    -- PKCS#8, sealed under the kid.
    private_key bytea not null,
    -- Ed25519, 32 bytes.
    public_key bytea not null,
    -- From when on it signs; published before.
    sign_micros bigint not null,
    -- From when on the next one does.
    retire_micros bigint not null,
    -- From when on it is not published any more.
    drop_micros bigint not null
);

-- GCRA of what may be guessed at. After a crash everyone begins anew, which costs nobody anything but one burst.
create unlogged table identity.attempts (
    -- A keyed hash of what is limited, and of whom.
    subject bytea primary key,
    -- The theoretical arrival time.
    due_micros bigint not null
);
create index attempts_by_age on identity.attempts (due_micros);

-- Mails not yet sent: written with what causes them, deleted once the mailer has taken them.
create table identity.mails (
    -- Of a sign-up: the sign-up's.
    id uuid primary key,
    -- 1: sign-up. 2: password reset.
    kind smallint not null,
    email_hash bytea not null,
    -- Sealed.
    email bytea not null,
    attempts integer not null default 0,
    -- When to try next; while someone sends it, when another may.
    due_micros bigint not null,
    -- When to give up.
    expire_micros bigint not null
);
create index mails_by_time on identity.mails (due_micros);
create index mails_by_email on identity.mails (email_hash);

-- Sign-ins that are at a provider.
create table identity.provider_flows (
    -- SHA-256 of the flow's token.
    digest bytea primary key,
    provider text not null,
    redirect_uri text not null,
    -- State, nonce and code verifier as JSON, sealed under the digest.
    secrets bytea not null,
    expire_micros bigint not null
);
create index provider_flows_by_expiry on identity.provider_flows (expire_micros);

-- Whom a provider's account signs in.
create table identity.provider_links (
    provider text not null,
    -- Keyed hash of the provider's `iss` and `sub`.
    subject_hash bytea not null,
    user_id uuid not null references identity.users (id),
    create_micros bigint not null,
    primary key (provider, subject_hash)
);
create index provider_links_of_user on identity.provider_links (user_id);
