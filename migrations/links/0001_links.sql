-- Links and the domains they live on. Times are microseconds since 1970 (bigint): exact, and what versions are made of.
-- Text that is compared or ordered by us is under "C": the rules are the code's, not a locale's.

-- Who may create links under which host. Never changed, only created and deleted.
create table links.domains (
    host text collate "C" primary key,
    -- Null: shared by all workspaces, and never deleted.
    workspace_id uuid,
    case_sensitive boolean not null,
    create_micros bigint not null
);
create index domains_of_workspace on links.domains (workspace_id, host);

-- What is, or was, at each (domain, slug): all that a redirect needs, in one row. A row whose link is null is a tombstone,
-- kept for its version, which must only grow, through deletion and re-creation.
create table links.directory (
    domain text collate "C" not null,
    -- Normalised by the domain's case rule.
    slug text collate "C" not null,
    version bigint not null,
    link_id uuid,
    workspace_id uuid,
    -- With the UTM parameters in its query.
    destination_uri text,
    redirect_status smallint,
    enabled boolean,
    forward_query boolean,
    -- 0: never.
    expire_micros bigint,
    expired_destination_uri text,
    utm_source text,
    utm_medium text,
    utm_campaign text,
    utm_term text,
    utm_content text,
    primary key (domain, slug),
    constraint directory_route_or_tombstone check (
        case when link_id is null
            then num_nonnulls(workspace_id, destination_uri, redirect_status, enabled, forward_query, expire_micros,
                expired_destination_uri, utm_source, utm_medium, utm_campaign, utm_term, utm_content) = 0
            else num_nulls(workspace_id, destination_uri, redirect_status, enabled, forward_query, expire_micros,
                expired_destination_uri, utm_source, utm_medium, utm_campaign, utm_term, utm_content) = 0
        end)
);

-- The links as their owners see them. Each has its row in the directory, changed in the same transaction.
create table links.links (
    id uuid primary key,
    workspace_id uuid not null,
    domain text collate "C" not null,
    -- As given; normalised beside it.
    slug text collate "C" not null,
    normalized_slug text collate "C" not null,
    -- As given, without UTM parameters.
    destination_uri text not null,
    redirect_status smallint not null,
    enabled boolean not null,
    forward_query boolean not null,
    utm_source text not null,
    utm_medium text not null,
    utm_campaign text not null,
    utm_term text not null,
    utm_content text not null,
    tags text[] not null,
    -- Null: never.
    expire_micros bigint,
    -- Empty: none.
    expired_destination_uri text not null,
    display_name text not null,
    create_micros bigint not null,
    update_micros bigint not null,
    -- The directory's; shown as the etag.
    version bigint not null
);
create unique index links_at on links.links (domain, normalized_slug);
-- The three orders of a list, each with the id that breaks ties.
create index links_by_creation on links.links (workspace_id, create_micros, id);
create index links_by_update on links.links (workspace_id, update_micros, id);
create index links_by_slug on links.links (workspace_id, slug, id);
create index links_by_tag on links.links using gin (tags);

-- Request ids (AIP-155), committed with the effect. Purged after 7 days.
create table links.requests (
    workspace_id uuid not null,
    request_id uuid not null,
    -- SHA-256 of method and request: the same id with another one is refused.
    fingerprint bytea not null,
    -- The encoded response. Null only inside the transaction that makes it.
    response bytea,
    create_micros bigint not null,
    primary key (workspace_id, request_id)
);
create index requests_by_age on links.requests (create_micros);

-- Changes not yet on the bus: written with the change, deleted once the bus has acknowledged them. Rows of one key are
-- numbered in the order of their transactions, which the lock on the directory's row sees to.
create table links.outbox (
    seq bigint generated always as identity primary key,
    key bytea not null,
    value bytea not null
);
