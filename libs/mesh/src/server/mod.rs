//! Where a service is called: mutual TLS, who may call what, deadlines, principals, drain.

mod access;
mod admit;
mod authorize;
mod body;
mod concurrency;
mod concurrency_metrics;
mod connection;
mod exchange;
mod gradient;
mod head_start;
#[cfg(test)]
mod overload;
mod preface;
mod principal;
mod rate_limits;
mod record;
mod request_body;
mod rules;
pub mod tap;

pub use access::Access;
pub use tap::Taps;

use crate::identity::Identity;
use crate::identity::Role;
use crate::identity::ServiceName;
use crate::metrics::CallMetrics;
use crate::metrics::CallStats;
use crate::metrics::PairMetrics;
use crate::policy::PolicyCell;
use admit::Admission;
use arc_swap::ArcSwap;
use authorize::Reports;
use concurrency::Limiter;
use head_start::HeadStarts;
use http::HeaderValue;
use prometheus_client::registry::Registry as MetricsRegistry;
use rules::Rules;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections a server has at most; those above are closed at once.
const CONNECTIONS_MAX: usize = 10_000;
/// How many of them may be of peers without a certificate, where any are let in.
const ANONYMOUS_MAX: usize = 256;
/// How long to wait after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(50);
/// How long what is left after the drain may take to be ended.
const ABORT_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a server needs to know.
#[derive(Debug)]
pub struct ServerOptions {
    /// The instance's id as registered, by which others tell whether it is still the same that answers.
    pub instance: String,
    /// Who this service is.
    pub identity: Identity,
    /// Who may call what.
    pub access: Access,
}

/// The server side of the mesh.
#[derive(Debug)]
pub struct Server {
    identity: Identity,
    shared: Arc<Shared>,
}

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    instance: HeaderValue,
    access: Access,
    /// Room for peers without a certificate.
    anonymous: Semaphore,
    service: String,
    /// When the server was made: what it counts by time counts from here.
    started: Instant,
    /// The policy of the service itself.
    policy: PolicyCell,
    /// What was made of it.
    rules: ArcSwap<Rules>,
    limiter: Limiter,
    head_starts: HeadStarts,
    reports: Reports,
    /// Callers by their place among those that have rate limits of their own.
    callers: Mutex<BTreeMap<ServiceName, usize>>,
    taps: Taps,
    metrics: CallMetrics,
}

impl Shared {
    /// What the policy says now. A call asks once, so that it never sees two.
    fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        let (changes, rules) = (self.policy.changes(), self.rules.load());
        if changes == rules.changes {
            return rules;
        }
        // The first calls after a change may each do this; they come to the same.
        self.rules.rcu(|before| match before.changes < changes {
            true => Arc::new(Rules::of(&self.policy, Some(before))),
            false => Arc::clone(before),
        });
        self.rules.load()
    }

    fn caller_index(&self, caller: &ServiceName) -> usize {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = callers.len();
        if next + 1 >= rate_limits::CALLERS_MAX && !callers.contains_key(caller) {
            return rate_limits::CALLERS_MAX - 1;
        }
        *callers.entry(caller.clone()).or_insert(next)
    }

    fn metrics_of(&self, peer: &ServiceName) -> Arc<PairMetrics> {
        self.metrics.between(peer.as_str(), &self.service)
    }
}

/// What the calls that a server answered have come to.
#[derive(Debug, Clone)]
pub struct ServerStats(CallMetrics);

impl ServerStats {
    /// By caller and method, since the server began.
    #[must_use]
    pub fn calls(&self) -> Vec<CallStats> {
        self.0.stats()
    }
}

impl Server {
    /// A server that has not begun to serve; its metrics go to `metrics`.
    ///
    /// # Errors
    /// If the instance's id can't be sent in a header, or the identity is nobody's.
    pub fn new(options: ServerOptions, metrics: &mut MetricsRegistry) -> anyhow::Result<Self> {
        let ServerOptions { instance, identity, access } = options;
        let policy = PolicyCell::default_of(identity.service());
        let limiter = Limiter::new();
        concurrency_metrics::register(limiter.clone(), metrics);
        anyhow::ensure!(identity.peer().role != Role::Anonymous, "a server has a certificate");
        let shared = Shared {
            started: Instant::now(),
            rules: ArcSwap::from_pointee(Rules::of(&policy, None)),
            policy,
            limiter,
            head_starts: HeadStarts::new(),
            reports: Reports::new(metrics),
            callers: Mutex::default(),
            taps: Taps::new(&instance),
            instance: HeaderValue::try_from(instance)?,
            access,
            anonymous: Semaphore::new(ANONYMOUS_MAX),
            service: identity.service().to_owned(),
            metrics: CallMetrics::inbound(metrics),
        };
        Ok(Self { identity, shared: Arc::new(shared) })
    }

    /// Obeys the policy in this cell, which is [`Mesh::policy`](crate::Mesh::policy)'s, instead of the defaults. To be said before
    /// it serves.
    #[must_use]
    pub fn with_policy(mut self, policy: PolicyCell) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("nothing shares it before it serves");
        shared.rules = ArcSwap::from_pointee(Rules::of(&policy, None));
        shared.policy = policy;
        self
    }

    /// What the calls that it answered have come to. Cheap to clone, and stays when the server serves.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        ServerStats(self.shared.metrics.clone())
    }

    /// Where what this server is asked and answers can be watched.
    #[must_use]
    pub fn taps(&self) -> Taps {
        self.shared.taps.clone()
    }

    /// Serves `routes` until `stop`; then says GOAWAY, finishes what is in flight within `drain_max`, and returns.
    ///
    /// Handlers find [`PeerIdentity`], [`rpc::Deadline`] (unless it is a stream without one), what the method asks of its caller
    /// ([`rpc::Requirement`]) if it says so, and [`rpc::Principal`] in a request's extensions: the one that the peer asserted, or an
    /// operator who asserted none.
    pub async fn serve(
        self,
        listener: TcpListener,
        routes: tonic::service::Routes,
        stop: CancellationToken,
        drain_max: Duration,
    ) {
        let routes = routes.prepare();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Connections and the calls on them.
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        // Whoever drops this future ends the connections with it.
        let _abort_when_dropped = abort.clone().drop_guard();
        while let Some(socket) = accept(&listener, &stop).await {
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!("too many connections; one is refused");
                continue;
            };
            let serving = connection::serve(
                socket,
                self.identity.clone(),
                Admission { shared: Arc::clone(&self.shared), routes: routes.clone() },
                connection::Life { tasks: tasks.clone(), stop: stop.clone(), abort: abort.clone() },
            );
            tasks.spawn(async move {
                serving.await;
                drop(place);
            });
        }
        drop(listener);

        tasks.close();
        if tokio::time::timeout(drain_max, tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(left = tasks.len(), "the drain took too long; what is left is ended");
        abort.cancel();
        if tokio::time::timeout(ABORT_WAIT_MAX, tasks.wait()).await.is_err() {
            tracing::warn!(left = tasks.len(), "calls that do not end are left behind");
        }
    }
}

/// The next connection; none once `stop` is cancelled.
async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => return Some(socket),
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_RETRY_WAIT).await;
            }
        }
    }
}
