//! The port through which instances say that they are there, and others see it.
//!
//! Two adapters, `memory:` and `etcd://`, pass one conformance suite. An adapter reports what it sees, in order; what to
//! make of it (an expired lease only makes an instance suspect) is decided once, in the channel.

mod callers;
mod join_tokens;
mod memory;
mod memory_callers;
mod memory_join_tokens;
mod memory_policies;
mod policies;
pub(crate) mod timestamp_text;

pub use callers::Attendance;
pub use callers::Caller;
pub use callers::CallerChange;
pub use callers::Roster;
pub use join_tokens::JOIN_TOKENS_MAX;
pub use join_tokens::JoinTokenEntry;
pub use join_tokens::JoinTokenStore;
pub use policies::POLICY_REVISIONS_MAX;
pub use policies::PolicyAppend;
pub use policies::PolicyChange;
pub use policies::PolicyEntry;
pub use policies::PolicyHead;
pub use policies::PolicyHistory;
pub use policies::PolicyStore;
pub use policies::PolicyWatch;

pub(crate) use callers::lowest_free;
pub(crate) use callers::process_name;
pub(crate) use policies::PolicyUpdate;

use crate::etcd;
use crate::policy::PolicySet;
use anyhow::Context as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The weight of an instance that says nothing else.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 10_000;
/// How long [`Lease::drain`] and [`Lease::withdraw`] wait for the registry: leaving is never delayed by more.
pub const LEAVE_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long [`Registry::diagnose`] takes at most.
pub const DIAGNOSIS_WAIT_MAX: Duration = Duration::from_secs(2);
/// The URI of a registry in memory.
const MEMORY: &str = "memory:";
/// How many updates an adapter may be ahead of its watcher.
pub(crate) const UPDATES_MAX: usize = 64;

/// An instance that wants to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The instance's id, unique among the instances of all services, such as `links-2`.
    pub instance: String,
    /// The service's name, such as `links`: its certificate must say the same.
    pub service: String,
    /// Where it listens, `host:port`, as others reach it.
    pub address: String,
    /// The failure domain it runs in.
    pub zone: String,
    /// The region it runs in.
    pub region: String,
    /// The version of the program.
    pub version: String,
    /// Its share of the traffic relative to the others', 1 to [`WEIGHT_MAX`]; [`WEIGHT_DEFAULT`] for most.
    pub weight: u32,
    /// The gRPC services that it serves, by full name.
    pub grpc_services: Vec<String>,
}

impl Registration {
    /// An instance of [`WEIGHT_DEFAULT`] whose place and version are not known.
    #[must_use]
    pub fn new(instance: &str, service: &str, address: &str, grpc_services: &[&str]) -> Self {
        Self {
            instance: instance.to_owned(),
            service: service.to_owned(),
            address: address.to_owned(),
            zone: String::new(),
            region: String::new(),
            version: String::new(),
            weight: WEIGHT_DEFAULT,
            grpc_services: grpc_services.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// An instance as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The instance's id.
    pub instance: String,
    /// The service's name.
    pub service: String,
    /// Where it listens, `host:port`.
    pub address: String,
    /// The failure domain it runs in.
    pub zone: String,
    /// The region it runs in.
    pub region: String,
    /// The version of the program.
    pub version: String,
    /// Its share of the traffic, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Whether it said that it is leaving.
    pub draining: bool,
    /// When it first registered.
    #[serde(with = "timestamp_text")]
    pub register_time: Timestamp,
}

impl Instance {
    pub(crate) fn new(registration: &Registration, register_time: Timestamp) -> Self {
        Self {
            instance: registration.instance.clone(),
            service: registration.service.clone(),
            address: registration.address.clone(),
            zone: registration.zone.clone(),
            region: registration.region.clone(),
            version: registration.version.clone(),
            weight: registration.weight.clamp(1, WEIGHT_MAX),
            draining: false,
            register_time,
        }
    }
}

/// One gRPC service on one instance: what a registry holds under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The gRPC service's full name, such as `linkmesh.links.v1.LinksService`.
    pub grpc_service: String,
    /// The instance that serves it.
    pub instance: Instance,
}

/// What a watcher is told, in the order in which it happened: of instances, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<E = Entry, C = Change> {
    /// Everything there is: the first update of a watch, and the first after one that was interrupted.
    Listed {
        /// The registry's revision. Lower than one seen before if the registry lost its data.
        revision: i64,
        /// All entries.
        entries: Vec<E>,
    },
    /// What changed since the update before, in order.
    Changed {
        /// The registry's revision after the changes.
        revision: i64,
        /// At least one.
        changes: Vec<C>,
    },
    /// Nothing changed, and the registry is there.
    Alive {
        /// The registry's revision.
        revision: i64,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An entry is new, or different.
    Put(Entry),
    /// An entry is gone, whether its instance said goodbye or its lease ran out.
    Delete {
        /// The gRPC service's full name.
        grpc_service: String,
        /// The instance's id.
        instance: String,
    },
}

/// Where instances register and are found.
pub trait Registry: fmt::Debug + Send + Sync {
    /// Registers an instance, and keeps it registered until the lease is given up. Returns at once and never fails: while
    /// the registry can't be reached, the adapter goes on trying. Must be called within a tokio runtime.
    fn register(&self, registration: Registration) -> Box<dyn Lease>;

    /// Watches all entries. An adapter recovers by itself from whatever happens to its registry. Must be called within a
    /// tokio runtime.
    fn watch(&self) -> Watch;

    /// Watches all policies, as [`watch`](Self::watch) does; `known` is what was known before, and holds until the registry
    /// has answered. A value that can't be used changes nothing but what the set says of it. Must be called within a tokio
    /// runtime.
    fn watch_policies(&self, known: PolicySet) -> PolicyWatch;

    /// Holds an ordinal among the processes of `service` that call, the lowest that is free, until the attendance is dropped; and
    /// follows who else has one. Must be called within a tokio runtime.
    fn attend(&self, service: &str, zone: &str) -> Attendance;

    /// Where policies are kept.
    fn policy_store(&self) -> Arc<dyn PolicyStore>;

    /// Where join tokens are remembered.
    fn join_tokens(&self) -> Arc<dyn JoinTokenStore>;

    /// Asks each member of its cluster how it is, all at once; none of a registry that has no members. Takes at most
    /// [`DIAGNOSIS_WAIT_MAX`].
    fn diagnose(&self) -> BoxFuture<'_, Vec<Member>>;

    /// Where it is, without what is secret of it: `memory:`, or `etcd://host:port,…`.
    fn place(&self) -> String;
}

/// A member of a registry's cluster, asked how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: String,
    /// How it is, or why it did not answer.
    pub health: Result<MemberHealth, String>,
    /// How long it took to answer, or not to.
    pub took: Duration,
}

/// How a member of a registry's cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberHealth {
    /// Its version.
    pub version: String,
    /// The revision that it has.
    pub revision: i64,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it knows who leads: without, it takes no writes.
    pub led: bool,
}

/// A registration that is kept up. Dropped, it runs out as if the process had died.
pub trait Lease: fmt::Debug + Send + Sync {
    /// Tells everyone that the instance is leaving. Returns when the registry has it, which is true, or after [`LEAVE_WAIT_MAX`];
    /// then it is told as soon as it can be reached.
    fn drain(&mut self) -> BoxFuture<'_, bool>;

    /// Tells everyone that the instance stays after all. Returns as [`drain`](Self::drain) does.
    fn undrain(&mut self) -> BoxFuture<'_, bool>;

    /// Whether the registry has what it was told last.
    fn is_reached(&self) -> bool;

    /// Takes the registration back, draining first if that was not done. Returns when the registry has it, or after
    /// [`LEAVE_WAIT_MAX`].
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A watch of all entries; it ends when dropped.
#[derive(Debug)]
pub struct Watch<E = Entry, C = Change> {
    pub(crate) updates: mpsc::Receiver<Update<E, C>>,
    pub(crate) _task: AbortOnDropHandle<()>,
}

impl<E, C> Watch<E, C> {
    /// The next update; none when the registry is gone for good, which only `memory:` can be. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update<E, C>> {
        self.updates.recv().await
    }

    /// The next update, if it is there already.
    pub(crate) fn next_ready(&mut self) -> Option<Update<E, C>> {
        self.updates.try_recv().ok()
    }
}

/// Opens the registry that `uri` names: `memory:` (a new one, known only to who shares the value), or
/// `etcd://user:password@host:port,host:port` (the user only if etcd asks for one), or `etcds://…?ca_file=…` with TLS. The
/// password may be in a file (`?password_file=…`), a client certificate in `cert_file` and `key_file`; all files are read anew
/// at every connection. Nothing is connected yet.
///
/// # Errors
/// If `uri` is none of these.
pub fn open(uri: &str) -> anyhow::Result<Arc<dyn Registry>> {
    open_with(uri, None)
}

/// The same, with a file for what must outlive the process and has no other place: the policies of `memory:`.
///
/// # Errors
/// Also if the file is there and can't be used: it is never replaced by an empty one.
pub fn open_kept(uri: &str, policies: &Path) -> anyhow::Result<Arc<dyn Registry>> {
    open_with(uri, Some(policies))
}

fn open_with(uri: &str, policies: Option<&Path>) -> anyhow::Result<Arc<dyn Registry>> {
    if uri == MEMORY {
        return Ok(Arc::new(memory::MemoryRegistry::open(policies)?));
    }
    let name = || format!("registry `{}`", etcd::without_password(uri));
    let registry = etcd::EtcdRegistry::open(uri).with_context(name)?;
    let registry = registry
        .with_context(|| format!("{}: must be `memory:` or `etcd://host:port,…`", name()))?;
    Ok(Arc::new(registry))
}
