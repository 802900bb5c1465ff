//! The mesh as its users see it: registries under one suite, etcd under faults, calls between real servers.

#![expect(clippy::unwrap_used, reason = "what a test's helper can't do fails the test")]

mod access;
mod backend;
mod calls;
mod chat;
mod deadlines;
mod drain;
mod etcd_access;
mod etcd_faults;
mod far;
mod faults;
mod following;
mod hedges;
mod identity;
mod mirrors;
mod network;
mod policies;
mod quorum_faults;
mod raw;
mod registries;
mod retries;
mod rules;
mod servers;
mod splits;
mod streams;
mod taps;
mod timeouts;
mod wire;
mod world;
