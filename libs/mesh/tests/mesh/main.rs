//! The mesh as its users see it: registries under one suite, etcd under faults, calls between real servers.

mod access;
mod backend;
mod calls;
mod chat;
mod drain;
mod etcd_faults;
mod following;
mod raw;
mod registries;
mod retries;
mod world;
