-- What was counted. One row holds the clicks of one link (nil: of the whole workspace) in one quarter hour that came in one
-- partition of the topic, so no two writers ever share a row; queries add rows up.
CREATE TABLE analytics.rollups (
    workspace  uuid        NOT NULL,
    -- The nil UUID stands for all links together.
    link       uuid        NOT NULL,
    -- The first moment of the quarter hour.
    quarter    timestamptz NOT NULL,
    -- Of the topic link-events.
    partition  integer     NOT NULL,
    clicks     bigint      NOT NULL,
    bot_clicks bigint      NOT NULL,
    -- Packed and versioned: services/analytics/src/domain/packed.rs.
    minutes    bytea       NOT NULL,
    dimensions bytea       NOT NULL,
    -- A sketch of the visitors' hashes: services/analytics/src/domain/visitors.rs. NULL: nobody was seen.
    visitors   bytea,
    PRIMARY KEY (workspace, link, quarter, partition),
    CHECK (clicks >= 0 AND bot_clicks >= 0)
) PARTITION BY RANGE (quarter);

-- Rewritten with every fold: compressing them anew each time would cost more than the space is worth.
ALTER TABLE analytics.rollups
    ALTER COLUMN minutes SET STORAGE MAIN,
    ALTER COLUMN dimensions SET STORAGE EXTERNAL,
    ALTER COLUMN visitors SET STORAGE EXTERNAL;

-- All links of a workspace in a short range, for the breakdown by link.
CREATE INDEX rollups_by_time ON analytics.rollups (workspace, quarter);
