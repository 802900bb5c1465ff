-- The aggregator's place in each partition of link-events, and who folds it.
CREATE TABLE analytics.partitions (
    partition        integer     PRIMARY KEY,
    -- The offset that is folded next. Only a fold that knows epoch and offset may move it.
    next_offset      bigint      NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    -- Fresh and random each time the partition is taken; NULL: nobody may fold.
    epoch            uuid,
    -- The lease: for sharing the work out, never for correctness.
    owner            text,
    owner_session    uuid,
    lease_until      timestamptz,
    -- The record before next_offset, as it was folded, to be found unchanged; last_append NULL: there is none to compare.
    last_incarnation bytea,
    last_first       bigint,
    last_count       bigint,
    last_append      bigint,
    -- The greatest append time seen, microseconds since 1970.
    append_seen      bigint      NOT NULL DEFAULT 0,
    lost_clicks      bigint      NOT NULL DEFAULT 0,
    -- Not NULL: halted until an operator resumes it.
    halt_reason      text,
    -- What the operator's last resume said, so that the same call sent twice succeeds twice.
    resumed_offset   bigint
);

-- Per incarnation of a spool, the highest number folded.
CREATE TABLE analytics.numbers (
    partition   integer NOT NULL,
    incarnation bytea   NOT NULL CHECK (length(incarnation) = 16),
    highest     bigint  NOT NULL,
    PRIMARY KEY (partition, incarnation)
);

-- The instances that share the partitions out.
CREATE TABLE analytics.instances (
    session  uuid        PRIMARY KEY,
    instance text        NOT NULL,
    seen     timestamptz NOT NULL
);

-- Clicks that were not folded.
CREATE TABLE analytics.dead_letters (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition    integer     NOT NULL,
    -- Empty if the record's headers are unreadable; then number is the record's offset.
    incarnation  bytea       NOT NULL,
    number       bigint      NOT NULL,
    reason       text        NOT NULL
                 CHECK (reason IN ('undecodable', 'out_of_window', 'expired', 'refused', 'unreadable_record')),
    detail       text        NOT NULL,
    -- An encoded Click, or with whole_record the value of a record.
    payload      bytea       NOT NULL,
    whole_record boolean     NOT NULL,
    -- The append time of its record, microseconds since 1970.
    append_time  bigint      NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    -- An operator asked for it to be folded anew, in spite of its window or not.
    requested    boolean     NOT NULL DEFAULT false,
    ignore_window boolean    NOT NULL DEFAULT false,
    redrive_time timestamptz,
    UNIQUE (partition, incarnation, number)
);

CREATE INDEX dead_letters_requested ON analytics.dead_letters (partition, id) WHERE requested;
