//! The database handle on a real Postgres.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

mod pg {
    mod failures;
    mod limits;
    mod migrations;
    mod outbox;
    mod partitions;
    mod replicas;
    mod requests;
}
