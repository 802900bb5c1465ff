//! The system tests: the whole program on real servers, and the rules of the source tree.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]
#![allow(unreachable_pub, reason = "helpers are shared with the long system tests")]

mod accounts;
mod arrows;
mod bad_input;
mod certificate_clients;
mod client;
mod clients;
mod cluster;
mod contract;
mod counted;
mod everyday;
mod faults;
mod identity;
mod limits;
mod manifests;
mod outage;
mod policy;
mod propagation;
mod rolling;
mod seeing;
mod speaking;
mod team;
mod tenancy;
mod traffic;
mod up;
