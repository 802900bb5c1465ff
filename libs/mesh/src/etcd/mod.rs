//! The registry in etcd: the one place that knows etcd's client.
//!
//! Keys are `linkmesh/endpoints/<gRPC service>/<instance>`, values are in etcd's own gRPC naming format, so a stock Go
//! client resolves `etcd:///linkmesh/endpoints/<gRPC service>`. The client resumes neither a watch nor a lease after a
//! disconnect, so both are supervised here: whatever happens, begin again.

mod callers;
mod diagnosis;
mod join_tokens;
mod lease;
mod location;
mod policies;
mod value;
mod watch;

pub(crate) use location::without_password;

use crate::policy::PolicySet;
use crate::registry::Attendance;
use crate::registry::JoinTokenStore;
use crate::registry::LEAVE_WAIT_MAX;
use crate::registry::Lease;
use crate::registry::Member;
use crate::registry::PolicyStore;
use crate::registry::PolicyWatch;
use crate::registry::Registration;
use crate::registry::Registry;
use crate::registry::UPDATES_MAX;
use crate::registry::Watch;
use crate::registry::process_name;
use anyhow::Context as _;
use callers::Callers;
use callers::Ordinal;
use etcd_client::Client;
use etcd_client::ConnectOptions;
use futures_util::future::BoxFuture;
use join_tokens::EtcdJoinTokens;
use lease::Order;
use lease::Registered;
use lease::Wanted;
use location::Location;
use policies::EtcdPolicies;
use policies::Policies;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use value::Endpoints;
use watch::Kind;

/// How long one request to etcd may take; a frozen member is silent for ever.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often an idle connection is probed, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(1));

/// A registry in etcd.
#[derive(Debug, Clone)]
pub(crate) struct EtcdRegistry {
    location: Arc<Location>,
}

impl EtcdRegistry {
    /// The registry that `uri` names; none if it is not in etcd.
    ///
    /// # Errors
    /// If the URI is malformed.
    pub(crate) fn open(uri: &str) -> anyhow::Result<Option<Self>> {
        let location = Location::parse(uri)?;
        Ok(location.map(|location| Self { location: Arc::new(location) }))
    }

    fn members(&self) -> Members {
        Members { location: Arc::clone(&self.location), next: AtomicUsize::new(0) }
    }
}

impl Registry for EtcdRegistry {
    fn register(&self, registration: Registration) -> Box<dyn Lease> {
        let order = Order { wanted: Wanted::Serving, number: 0 };
        let (orders, ordered) = tokio::sync::watch::channel(order);
        let (reach, reached) = tokio::sync::watch::channel(None);
        let members = self.members();
        #[expect(clippy::disallowed_methods, reason = "the lease owns the task and ends it")]
        let task =
            tokio::spawn(lease::keep(members, Registered::new(registration), ordered, reach));
        Box::new(EtcdLease { orders, reached, _task: AbortOnDropHandle::new(task) })
    }

    fn watch(&self) -> Watch {
        follow::<Endpoints>(self.members())
    }

    fn watch_policies(&self, known: PolicySet) -> PolicyWatch {
        PolicyWatch::over(follow::<Policies>(self.members()), known)
    }

    fn policy_store(&self) -> Arc<dyn PolicyStore> {
        Arc::new(EtcdPolicies::new(self.members()))
    }

    fn attend(&self, service: &str, zone: &str) -> Attendance {
        let process = process_name();
        let ordinal = Ordinal {
            service: service.to_owned(),
            zone: zone.to_owned(),
            process: process.clone(),
        };
        let (orders, ordered) =
            tokio::sync::watch::channel(Order { wanted: Wanted::Serving, number: 0 });
        let (reach, _) = tokio::sync::watch::channel(None);
        #[expect(clippy::disallowed_methods, reason = "the attendance owns the task and ends it")]
        let task = tokio::spawn(lease::keep(self.members(), ordinal, ordered, reach));
        let held = (orders, AbortOnDropHandle::new(task));
        Attendance::over(follow::<Callers>(self.members()), service.to_owned(), process, held)
    }

    fn join_tokens(&self) -> Arc<dyn JoinTokenStore> {
        Arc::new(EtcdJoinTokens { members: self.members() })
    }

    fn diagnose(&self) -> BoxFuture<'_, Vec<Member>> {
        Box::pin(diagnosis::diagnose(&self.location))
    }

    fn place(&self) -> String {
        diagnosis::place(&self.location)
    }
}

fn follow<K: Kind>(members: Members) -> Watch<K::Entry, K::Change> {
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    #[expect(clippy::disallowed_methods, reason = "the watch owns the task and ends it")]
    let task = tokio::spawn(watch::follow::<K>(members, sender));
    Watch { updates, _task: AbortOnDropHandle::new(task) }
}

/// The members of a cluster, of which one is talked to at a time: a client of all of them would go on giving a share
/// of its requests to one that is dead.
#[derive(Debug)]
struct Members {
    location: Arc<Location>,
    next: AtomicUsize,
}

impl Members {
    /// A fresh connection to the next member. A connection that was lost is replaced, not resumed: etcd's client would wait
    /// by a schedule of its own.
    async fn connect(&self) -> anyhow::Result<Client> {
        let members = &self.location.members;
        let member = &members[self.next.fetch_add(1, Ordering::Relaxed) % members.len()];
        connect(&self.location, member, ConnectOptions::new().with_require_leader(true)).await
    }
}

/// A connection to one member.
async fn connect(
    location: &Location,
    member: &str,
    options: ConnectOptions,
) -> anyhow::Result<Client> {
    let options = options
        .with_connect_timeout(CONNECT_WAIT_MAX)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_keep_alive_while_idle(true);
    let options = location.admit(options).await?;
    // With a password, connecting is a request too.
    answer(Box::pin(Client::connect([member], Some(options)))).await
}

/// Awaits an answer of etcd for at most [`REQUEST_WAIT_MAX`].
async fn answer<T>(
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(REQUEST_WAIT_MAX, request).await;
    Ok(answer.context("etcd did not answer in time")??)
}

#[derive(Debug)]
struct EtcdLease {
    orders: tokio::sync::watch::Sender<Order>,
    reached: tokio::sync::watch::Receiver<Option<u64>>,
    _task: AbortOnDropHandle<()>,
}

impl EtcdLease {
    /// Returns whether etcd has it.
    async fn reach(&mut self, wanted: Wanted) -> bool {
        let number = self.orders.borrow().number + 1;
        self.orders.send_replace(Order { wanted, number });
        let reached = self.reached.wait_for(|reached| *reached >= Some(number));
        matches!(tokio::time::timeout(LEAVE_WAIT_MAX, reached).await, Ok(Ok(_)))
    }
}

impl Lease for EtcdLease {
    fn drain(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(self.reach(Wanted::Draining))
    }

    fn undrain(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(self.reach(Wanted::Serving))
    }

    fn is_reached(&self) -> bool {
        *self.reached.borrow() >= Some(self.orders.borrow().number)
    }

    fn withdraw(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if !self.reach(Wanted::Gone).await {
                tracing::warn!("etcd does not answer; the registration is left to run out");
            }
        })
    }
}
