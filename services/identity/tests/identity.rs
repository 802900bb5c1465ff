//! The service in one process, called by real clients through the mesh, on real Postgres and a log on disk.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

mod identity {
    mod access;
    mod api_keys;
    mod audit;
    mod authentication;
    mod erasure;
    mod failures;
    mod harness;
    mod invitations;
    mod mails;
    mod members;
    mod oracles;
    mod people;
    mod provider;
    mod providers;
    mod request_ids;
    mod reseal;
    mod second_factors;
    mod service_accounts;
    mod sessions;
    mod tenancy;
    mod users;
    mod workspaces;
}
