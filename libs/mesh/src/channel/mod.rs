//! The channel to every service.

mod body;

pub use body::Body;

use crate::identity::Identity;
use crate::registry::Instance;
use crate::registry::Registry;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry as MetricsRegistry;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tonic::Status;

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
    /// alone.
    pub snapshot: Option<PathBuf>,
}

/// The channel to every service: a gRPC path names its service, and the mesh knows who serves it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mesh {}

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
}

impl Mesh {
    /// Starts a channel: reads the snapshot, and begins to watch the registry. Does not wait for it. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Only for what no waiting would help: malformed options.
    pub fn start(_options: MeshOptions, _metrics: &mut MetricsRegistry) -> anyhow::Result<Self> {
        todo!()
    }

    /// A channel to one process whose address is known, without a registry.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn to_one(
        _identity: Identity,
        _service: &str,
        _address: &str,
        _grpc_services: &[&str],
    ) -> anyhow::Result<Self> {
        todo!()
    }

    /// Every instance that this mesh knows.
    #[must_use]
    pub fn view(&self) -> MeshView {
        todo!()
    }

    /// Ends all tasks and connections, and waits for them. Calls in flight fail; what any clone calls afterwards fails.
    pub async fn close(&self) {
        todo!()
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Mesh {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<tonic::body::Body>) -> Self::Future {
        todo!()
    }
}
