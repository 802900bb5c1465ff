//! Postgres for services: a [`Database`] is one service's primary and its replicas.
//!
//! What must stay true: a read goes to the primary unless its caller said what staleness it accepts
//! ([`Consistency`]); every wait has a bound; SQL names its tables with their schema (`links.links`), since the
//! pools set no search path; and what an error means for the caller is decided in one place ([`Failure`]).

mod config;
mod database;
mod failure;
mod lsn;
mod metrics;
mod migrations;
pub mod outbox;
pub mod partitions;
mod replicas;
pub mod requests;

pub use config::Config;
pub use database::{
    ACQUIRE_TIMEOUT, Database, IDLE_IN_TRANSACTION_TIMEOUT, LOCK_TIMEOUT, STATEMENT_TIMEOUT,
};
pub use failure::Failure;
pub use lsn::{BadLsn, Lsn};
pub use migrations::{MIGRATION_TIMEOUT, migrate};
pub use replicas::Consistency;
