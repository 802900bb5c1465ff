//! The service in one process, called by real clients through the mesh, on real Postgres and a log on disk.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

mod identity {
    mod access;
    mod api_keys;
    mod audit;
    mod authentication;
    mod harness;
    mod members;
    mod service_accounts;
    mod tenancy;
    mod workspaces;
}
