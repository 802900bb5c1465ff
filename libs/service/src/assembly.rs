//! What a service gets from its host ([`Context`]) and what it gives back ([`Assembly`]).

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::MetricsRegistry;

/// What a service is given to work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// This instance's id, such as `links-2`: unique in the mesh.
    pub instance: String,
    /// The failure domain it runs in.
    pub zone: String,
    /// The region it runs in.
    pub region: String,
    /// The version of the program.
    pub version: String,
    /// The channel to every other service, under this service's own identity.
    pub mesh: mesh::Mesh,
    /// Where the instances of all services are found, and what the mesh as a whole is told.
    pub registry: Arc<dyn mesh::Registry>,
    /// The event bus, shared by the services of a process.
    pub bus: bus::Bus,
    /// Where the service registers its metrics; they are labelled `service=<name>`.
    pub metrics: MetricsRegistry,
    /// A folder that belongs to this service alone and exists. It outlives restarts under the same instance id.
    pub data: PathBuf,
}

/// What a service is made of.
#[derive(Debug, Default)]
pub struct Assembly {
    /// Its gRPC services.
    pub routes: tonic::service::Routes,
    /// The full names of the gRPC services in `routes`, such as `linkmesh.links.v1.LinksService`: registered in the mesh,
    /// listed by reflection, answered for by health.
    pub grpc_services: Vec<&'static str>,
    /// Which peers may call which of them; what is not named is refused.
    pub access: mesh::Access,
    /// What runs beside the calls. At the stop they are cancelled and joined one after the other, in this order.
    pub tasks: Vec<Task>,
    /// What must hold before the service is ready.
    pub ready: Vec<Condition>,
}

/// How long a task may take to stop unless it says otherwise.
const STOP_WITHIN: Duration = Duration::from_secs(10);

pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A background task of a service. The host runs, supervises and joins it: one that fails or panics stops the process.
pub struct Task {
    pub(crate) name: &'static str,
    pub(crate) stop_within: Duration,
    pub(crate) start: Box<dyn FnOnce(CancellationToken) -> TaskFuture + Send>,
}

impl Task {
    /// A task that runs `work` until the token it is given is cancelled; then it finishes what it holds (commit, flush) and
    /// returns. It may return `Ok` earlier when nothing is left to do.
    pub fn new<W, F>(name: &'static str, work: W) -> Task
    where
        W: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Task { name, stop_within: STOP_WITHIN, start: Box::new(|stop| Box::pin(work(stop))) }
    }

    /// Gives the task this long to return after its token is cancelled, instead of 10 s; then it is aborted.
    pub fn stop_within(self, stop_within: Duration) -> Task {
        Task { stop_within, ..self }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Task")
            .field("name", &self.name)
            .field("stop_within", &self.stop_within)
            .finish_non_exhaustive()
    }
}

/// Something that must hold for a service to be ready. `/readyz` names those that do not.
#[derive(Debug, Clone)]
pub struct Condition {
    pub(crate) name: &'static str,
    pub(crate) holds: watch::Receiver<bool>,
}

impl Condition {
    /// A condition that holds while the watched value is true. The last value stays when the sender is dropped.
    pub fn new(name: &'static str, holds: watch::Receiver<bool>) -> Condition {
        Condition { name, holds }
    }
}
