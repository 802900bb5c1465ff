//! The service in one process, called by real clients through the mesh, on real Postgres and a log on disk.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

mod links {
    mod batch;
    mod changes;
    mod domains;
    mod harness;
    mod input;
    mod lists;
    mod outage;
    mod request_ids;
    mod tenancy;
}
