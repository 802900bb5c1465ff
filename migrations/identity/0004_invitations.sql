-- Invitations, and answers under request ids that are not to be read by whoever reads the database.

-- Deleted when they are answered, taken back or replaced; purged when they expire.
create table identity.invitations (
    -- Of its mail (kind 3) too.
    id uuid primary key,
    workspace_id uuid not null references identity.workspaces (id),
    email_hash bytea not null,
    -- Sealed.
    email bytea not null,
    -- A number of linkmesh.common.v1.Role.
    role integer not null,
    -- Who invited: a user, or an API key; an operator if neither.
    inviter_id uuid references identity.users (id),
    key_id uuid,
    -- SHA-256 of the token of the mail. Null: it was not sent yet.
    token_digest bytea,
    create_micros bigint not null,
    expire_micros bigint not null
);
-- Of a user who is erased.
create index invitations_by_inviter on identity.invitations (inviter_id) where inviter_id is not null;
-- Lists; and one for each address.
create index invitations_of_workspace on identity.invitations (workspace_id, id);
create unique index invitations_by_address on identity.invitations (workspace_id, email_hash);
create unique index invitations_by_token on identity.invitations (token_digest);
create index invitations_by_email on identity.invitations (email_hash);
create index invitations_by_expiry on identity.invitations (expire_micros);
-- Invitations are leased after the other kinds.
create index mails_by_kind on identity.mails (kind, due_micros);

-- Responses under request ids that hold secrets or personal data. Purged after 24 hours, with their rows of `requests`, which hold in
-- place of a response the id here.
--
-- `requests.workspace_id` is where the id has its meaning: a workspace; a user; nil, of what an operator asks for outside of
-- workspaces; or, of calls of nobody yet, a keyed hash of the method and of the address or token that the call holds.
-- `requests.fingerprint` is keyed where the request holds a secret or an address.
create table identity.answers (
    id uuid primary key,
    -- The key in `requests`.
    workspace_id uuid not null,
    request_id uuid not null,
    -- Whom it was for: it is erased with them.
    user_id uuid not null,
    -- Sealed.
    answer bytea not null,
    create_micros bigint not null
);
create index answers_of_user on identity.answers (user_id);
create index answers_by_age on identity.answers (create_micros);
