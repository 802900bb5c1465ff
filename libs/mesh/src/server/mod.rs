//! Where a service is called: mutual TLS, who may call what, deadlines, principals, drain.

mod access;

pub use access::Access;

use crate::identity::Identity;
use crate::identity::ServiceName;
use prometheus_client::registry::Registry as MetricsRegistry;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The service that calls, proved by its certificate. In the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its name.
    pub service: ServiceName,
}

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
pub struct Server {}

impl Server {
    /// A server that has not begun to serve; its metrics go to `metrics`.
    #[must_use]
    pub fn new(_options: ServerOptions, _metrics: &mut MetricsRegistry) -> Self {
        todo!()
    }

    /// Serves `routes` until `stop`; then says GOAWAY, finishes what is in flight within `drain_max`, and returns.
    ///
    /// Handlers find [`PeerIdentity`], [`rpc::Deadline`] and, if the peer asserted one, [`rpc::Principal`] in a request's
    /// extensions.
    pub async fn serve(
        self,
        _listener: TcpListener,
        _routes: tonic::service::Routes,
        _stop: CancellationToken,
        _drain_max: Duration,
    ) {
        todo!()
    }
}
