//! The channel to every service: [`Mesh`].

mod attempt;
mod balance;
#[cfg(any(test, feature = "bench"))]
mod bare;
#[cfg(feature = "bench")]
pub mod bench;
mod body;
mod budget;
mod call;
mod clock;
mod connection;
mod directory;
mod endpoint;
mod fault;
mod fleet;
mod flight;
mod health;
mod hedge;
mod idle;
mod keeper;
mod latencies;
mod load;
mod mirror;
mod owners;
mod payload;
mod peers;
mod pick;
mod reach;
mod record;
mod resolver;
mod retry;
mod route_view;
mod routes;
mod shared;
mod snapshot;
mod subset;
mod suspects;
mod table;
mod waiting;
mod warm_up;

pub use body::Body;
pub(crate) use call::DEADLINE_DEFAULT;
pub use reach::reach;
pub use route_view::RouteView;
pub use route_view::ServiceRoutesView;

use crate::identity::Identity;
use crate::metrics::CallMetrics;
use crate::metrics::CallStats;
use crate::policy::PolicyCell;
use crate::policy::PolicyMetrics;
use crate::policy::PolicySet;
use crate::registry;
use crate::registry::Instance;
use crate::registry::Lease;
use crate::registry::Registration;
use crate::registry::Registry;
use arc_swap::ArcSwap;
use fault::ActiveFaults;
use futures_util::future::BoxFuture;
use latencies::Latencies;
use mirror::Mirrors;
use owners::Told;
use payload::Replays;
use prometheus_client::registry::Registry as MetricsRegistry;
use resolver::Home;
use resolver::PublishedInstance;
use resolver::Resolver;
use shared::Shared;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tonic::Status;
use waiting::Waiting;

/// What a [`Mesh`] needs to know.
#[derive(Debug)]
pub struct MeshOptions {
    /// Where instances are found.
    pub registry: Arc<dyn Registry>,
    /// Who calls.
    pub identity: Identity,
    /// The failure domain the caller runs in.
    pub zone: String,
    /// The region the caller runs in.
    pub region: String,
    /// The file that keeps what was last known, for a process that starts while the registry is away; none: kept in memory
    /// alone. No two meshes share one.
    pub snapshot: Option<PathBuf>,
}

impl MeshOptions {
    /// A caller whose place is not known, and that keeps nothing on disk.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, identity: Identity) -> Self {
        Self { registry, identity, zone: String::new(), region: String::new(), snapshot: None }
    }
}

/// The channel to every service: a gRPC path names its service, and the mesh knows who serves it. Cheap to clone; when the
/// last clone is dropped, all connections end.
#[derive(Debug, Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    /// To whoever makes the routes.
    owners: mpsc::Sender<Told>,
    owner: Arc<Owner>,
}

/// What runs for a mesh.
#[derive(Debug)]
struct Owner {
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
    /// The one registration of a mesh that knows one process.
    _lease: Option<Box<dyn Lease>>,
}

/// What a process knows of the mesh.
#[derive(Debug, Clone)]
pub struct MeshView {
    /// The registry's revision; 0 if all comes from the snapshot on disk.
    pub revision: i64,
    /// How long ago the registry last answered; none if it never did.
    pub age: Option<Duration>,
    /// By service, then instance.
    pub endpoints: Vec<EndpointView>,
}

/// One instance, and how it fares.
#[derive(Debug, Clone)]
pub struct EndpointView {
    /// What the registry says of it.
    pub instance: Instance,
    /// The gRPC services that it serves, in order of name.
    pub grpc_services: Vec<String>,
    /// Whether it left the registry without saying so, and still answers.
    pub suspect: bool,
    /// Calls in flight from this mesh.
    pub pending: u32,
    /// The peak-EWMA of its response times; none if it was not called yet.
    pub latency: Option<Duration>,
    /// How it fares.
    pub state: EndpointState,
    /// Open connections to it.
    pub connections: usize,
    /// The share of its calls of the last 10 s that it did not fail; none without calls.
    pub success_rate: Option<f64>,
    /// How near it is: 0 for the caller's own zone, or if zones do not count; each further rank is used as those before
    /// it fail.
    pub tier: usize,
    /// Its share of the traffic that is in force: [`Instance::weight`], less while it warms up.
    pub weight: f64,
}

/// How an instance fares, as seen by one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// Nobody wanted to call it yet, or not for long: no connection.
    Idle,
    /// A connection is being opened, or tried for.
    Connecting,
    /// In use.
    Ready,
    /// In use, with a share that still grows with its age.
    Warming,
    /// Not used, after its failures.
    Unhealthy {
        /// How long until it is tried again.
        left: Duration,
    },
    /// Not used, because it fares much worse than the others (gRFC A50).
    Ejected {
        /// How long until it is used again, at the latest.
        left: Duration,
    },
    /// Used only if there is no other: it said that it is leaving.
    Draining,
}

impl EndpointView {
    fn of(published: &PublishedInstance, now: Instant) -> Self {
        let PublishedInstance { known, endpoint, tier } = published;
        let tick = endpoint.tick(now);
        let recent = endpoint.health.recent(tick);
        Self {
            instance: known.instance.clone(),
            grpc_services: known.grpc_services.keys().cloned().collect(),
            suspect: known.is_suspect(),
            pending: endpoint.load.pending(),
            latency: endpoint.load.latency(),
            state: endpoint.state(tick),
            connections: endpoint.connection_count(),
            success_rate: (recent.calls > 0).then(|| 1.0 - f64::from(recent.failed())),
            tier: *tier,
            weight: f64::from(endpoint.weight()),
        }
    }
}

impl Mesh {
    /// Starts a channel: reads the snapshot, and begins to watch the registry. Does not wait for it. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Only for what no waiting would help: malformed options.
    pub fn start(options: MeshOptions, metrics: &mut MetricsRegistry) -> anyhow::Result<Self> {
        Self::start_with(options, metrics, None)
    }

    /// A channel to one process whose address (`host:port`) is known, without a registry; it must prove to be `service`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn to_one(
        identity: Identity,
        service: &str,
        address: &str,
        grpc_services: &[&str],
    ) -> anyhow::Result<Self> {
        crate::identity::ServiceName::parse(service)?;
        let registry = registry::open("memory:")?;
        let lease = registry.register(Registration::new(address, service, address, grpc_services));
        let options = MeshOptions::new(registry, identity);
        // One call of a command line has nobody who reads its metrics.
        Self::start_with(options, &mut MetricsRegistry::default(), Some(lease))
    }

    fn start_with(
        options: MeshOptions,
        metrics: &mut MetricsRegistry,
        lease: Option<Box<dyn Lease>>,
    ) -> anyhow::Result<Self> {
        if let Some(path) = &options.snapshot {
            anyhow::ensure!(path.file_name().is_some(), "the snapshot's path names no file");
        }
        let policy_metrics = PolicyMetrics::new(metrics);
        let metrics = CallMetrics::outbound(metrics);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(Shared {
            routes: ArcSwap::default(),
            published: ArcSwap::default(),
            waiting: Arc::new(Waiting::default()),
            policy: PolicyCell::default_of(options.identity.service()),
            unrouted: metrics.between(options.identity.service(), "none"),
            metrics: metrics.clone(),
            caller: options.identity.service().to_owned(),
            replays: Replays::default(),
            faults: ActiveFaults::default(),
            latencies: Latencies::new(),
            mirrors: Mirrors::new(tasks.clone(), stop.clone()),
        });
        let mut resolver = Resolver::new(
            Arc::clone(&shared),
            options.identity,
            Home { zone: options.zone, region: options.region, roster: Arc::default() },
            metrics,
            policy_metrics,
            options.snapshot,
        );
        let known = resolver.restore();
        let policies = options.registry.watch_policies(known);
        let (owners, told) = mpsc::channel(1);
        tasks.spawn(resolver.run(options.registry, policies, told, stop.clone()));
        let owner =
            Owner { tasks, _stop_when_dropped: stop.clone().drop_guard(), stop, _lease: lease };
        Ok(Self { shared, owners, owner: Arc::new(owner) })
    }

    /// Every instance that this mesh knows.
    #[must_use]
    pub fn view(&self) -> MeshView {
        let published = self.shared.published.load();
        let now = Instant::now();
        let mut endpoints: Vec<_> =
            published.instances.iter().map(|instance| EndpointView::of(instance, now)).collect();
        endpoints.sort_by(|a, b| {
            (&a.instance.service, &a.instance.instance)
                .cmp(&(&b.instance.service, &b.instance.instance))
        });
        MeshView {
            revision: published.revision,
            age: published.heard.map(|heard| heard.elapsed()),
            endpoints,
        }
    }

    /// The policies that this mesh obeys, and those that it can't.
    #[must_use]
    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.shared.published.load().policies)
    }

    /// The policy of the service that this mesh belongs to, as it changes: for [`Server::with_policy`](crate::Server::with_policy).
    #[must_use]
    pub fn policy(&self) -> PolicyCell {
        self.shared.policy.clone()
    }

    /// What the calls that this mesh made have come to, by callee and method, since it began.
    #[must_use]
    pub fn stats(&self) -> Vec<CallStats> {
        self.shared.metrics.stats()
    }

    /// What is done with the calls that this mesh makes, by service.
    #[must_use]
    pub fn routes(&self) -> Vec<ServiceRoutesView> {
        route_view::of(&self.shared.routes.load())
    }

    /// Says whose instances serve gRPC services that are newer than this program, by gRPC service: what `served_by` is in their protos. It
    /// holds in place of what was said before; what this program was built with holds all the same. Returns once no new call goes
    /// to anyone else.
    pub async fn serve_by(&self, owners: BTreeMap<String, String>) {
        let (obeyed, is_obeyed) = oneshot::channel();
        if self.owners.send(Told { owners, obeyed }).await.is_ok() {
            // Nothing is said but that it is over; a mesh that is closed makes no calls.
            drop(is_obeyed.await);
        }
    }

    /// Ends all tasks and connections, and waits for them. Calls in flight fail; what any clone calls afterwards fails.
    pub async fn close(&self) {
        self.owner.stop.cancel();
        self.owner.tasks.close();
        self.owner.tasks.wait().await;
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Mesh {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    /// Always ready: whether an endpoint has room is known only once the call says for whom it is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(&self.owner));
        Box::pin(async move {
            let response = pin!(call::call(&shared, request)).await?;
            // Connections live as long as someone reads from them, even if the last clone of the mesh was the client's.
            Ok(response.map(|body| body.owned_by(owner)))
        })
    }
}
