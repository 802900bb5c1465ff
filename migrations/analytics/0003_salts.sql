-- The keys of the visitors' hashes. A row is deleted 48 h after its day began; nothing else remembers it.
CREATE TABLE analytics.salts (
    -- Days since 1970-01-01, UTC.
    day integer PRIMARY KEY,
    key bytea   NOT NULL CHECK (length(key) = 16)
);
