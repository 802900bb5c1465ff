-- Workspaces and their API keys. Times are microseconds since 1970 (bigint): exact, and what versions are made of.

create table identity.workspaces (
    id uuid primary key,
    display_name text not null,
    create_micros bigint not null,
    update_micros bigint not null,
    -- Grows with every change; shown as the etag.
    version bigint not null
);

-- API keys. Of a key only its digest is kept. Rows are never deleted: a revoked key is still listed.
create table identity.api_keys (
    id uuid primary key,
    workspace_id uuid not null references identity.workspaces (id),
    display_name text not null,
    -- The public part, by which a presented key is looked up.
    prefix text collate "C" not null,
    -- SHA-256 of the whole key.
    digest bytea not null,
    -- Numbers of linkmesh.common.v1.Scope.
    scopes integer[] not null,
    -- Null: never.
    expire_micros bigint,
    create_micros bigint not null,
    -- To the minute; null: never. Written in batches.
    last_use_micros bigint,
    -- Null: not revoked.
    revoke_micros bigint,
    -- Grows with every change that an edge must know of.
    version bigint not null
);
create unique index api_keys_by_prefix on identity.api_keys (prefix);
-- Lists, newest first.
create index api_keys_of_workspace on identity.api_keys (workspace_id, create_micros, id);

-- Request ids (AIP-155), committed with the effect. Purged after 7 days.
create table identity.requests (
    -- Nil for CreateWorkspace, which belongs to none yet.
    workspace_id uuid not null,
    request_id uuid not null,
    -- SHA-256 of method and request: the same id with another one is refused.
    fingerprint bytea not null,
    -- The encoded response, without secrets. Null only inside the transaction that makes it.
    response bytea,
    create_micros bigint not null,
    primary key (workspace_id, request_id)
);
create index requests_by_age on identity.requests (create_micros);

-- Changes not yet on the bus: written with the change, deleted once the bus has acknowledged them. Rows of one key are
-- numbered in the order of their transactions, which the lock on the API key's row sees to.
create table identity.outbox (
    seq bigint generated always as identity primary key,
    key bytea not null,
    value bytea not null
);
