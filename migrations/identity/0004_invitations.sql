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
    -- Null: an API key or an operator invited.
    inviter_id uuid references identity.users (id),
    -- SHA-256 of the token of the mail. Null: it was not sent yet.
    token_digest bytea,
    create_micros bigint not null,
    expire_micros bigint not null
);
-- Lists; and one for each address.
create index invitations_of_workspace on identity.invitations (workspace_id, id);
create unique index invitations_by_address on identity.invitations (workspace_id, email_hash);
create unique index invitations_by_token on identity.invitations (token_digest);
create index invitations_by_email on identity.invitations (email_hash);
create index invitations_by_expiry on identity.invitations (expire_micros);

-- Of a response that is sealed: what it is sealed under, beside table and column. Null: it is not sealed.
alter table identity.requests add column answer_id uuid;
create unique index requests_by_answer on identity.requests (answer_id) where answer_id is not null;
create index requests_to_forget on identity.requests (create_micros) where answer_id is not null;
