-- Who may do what: members of workspaces, service accounts, invitations, and the audit log.

-- Where a change goes. The default is what a process of the version before means, which may still run.
alter table identity.outbox add column topic text not null default 'key-changes';

-- A number of linkmesh.common.v1.Tier.
alter table identity.workspaces add column tier integer not null default 1;

create table identity.members (
    workspace_id uuid not null references identity.workspaces (id),
    user_id uuid not null references identity.users (id),
    -- A number of linkmesh.common.v1.Role.
    role integer not null,
    create_micros bigint not null,
    update_micros bigint not null,
    primary key (workspace_id, user_id)
);
create index members_of_user on identity.members (user_id, workspace_id);

-- The version of what a user may do where: grows with every change of it, and is what edges are told. The row's lock keeps a
-- user's memberships within their number.
create table identity.user_grants (
    user_id uuid primary key references identity.users (id),
    version bigint not null
);

-- Programs with a role. Rows are never deleted: keys and the audit log name them.
create table identity.service_accounts (
    id uuid primary key,
    workspace_id uuid not null references identity.workspaces (id),
    display_name text not null,
    role integer not null,
    create_micros bigint not null,
    update_micros bigint not null,
    -- Null: not deleted.
    delete_micros bigint
);
create index service_accounts_of_workspace on identity.service_accounts (workspace_id, id);

-- Null: the workspace's own.
alter table identity.api_keys add column service_account_id uuid references identity.service_accounts (id);
create index api_keys_of_service_account on identity.api_keys (service_account_id)
    where service_account_id is not null;

-- The audit log: written with the act, never changed. A stream is a workspace's or a user's.
create table identity.audit_events (
    stream_id uuid not null,
    -- From 1 on, without gaps.
    sequence bigint not null,
    -- An encoded linkmesh.identity.v1.AuditEvent without sequence and hash. Ids alone, nothing personal.
    event bytea not null,
    -- SHA-256 of the hash of the event before (32 zero bytes for the first), stream_id, sequence (8 bytes, big-endian) and event.
    hash bytea not null,
    primary key (stream_id, sequence)
);

-- The last event of each stream: its lock puts the events of a stream in order, and an end that is cut off is noticed.
create table identity.audit_heads (
    stream_id uuid primary key,
    sequence bigint not null,
    hash bytea not null
);
