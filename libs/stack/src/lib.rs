//! Starts the real servers that Linkmesh needs as child processes: for `linkmesh dev`, `linkmesh up`, tests and the bench; and
//! stands between two of them where a test wants the network to fail.
//!
//! What must stay true: every server listens on loopback only, on a port that stays its own across restarts; it is ready
//! when `start` returns; it dies with the process that started it unless that asked for [`Lifetime::Detached`]; its words
//! are in a log file beside its data; and a missing server is an error that says how to install it.

mod account;
mod etcd;
mod etcd_cluster;
mod fault_proxy;
mod folder;
mod kafka;
mod launcher;
pub mod locate;
pub mod port;
mod postgres;
mod process;
mod program;
mod redis;
mod replica;
mod server;
mod test_database;

pub use account::Account;
pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use etcd_cluster::EtcdCluster;
pub use fault_proxy::{Arrivals, FaultProxy, Faults, Flow};
pub use folder::TemporaryFolder;
pub use kafka::Kafka;
pub use postgres::{Durability, Postgres};
pub use process::{ProcessId, Signal};
pub use program::{Lifetime, Program};
pub use redis::Redis;
pub use replica::PostgresReplica;
pub use server::{Options, Server};
pub use test_database::{Schema, TestDatabase};
