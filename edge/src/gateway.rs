//! What every API call needs, whatever its protocol.

use http::HeaderMap;
use http::HeaderValue;
use jiff::Timestamp;
use tonic::Status;
use tonic::service::Routes;

use crate::cors::Cors;
use crate::keys::Keys;

/// The way from clients to services. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) mesh: mesh::Mesh,
    pub(crate) keys: Keys,
    pub(crate) body_bytes_max: usize,
    pub(crate) cors: Cors,
    /// Health and reflection, which the edge answers itself.
    pub(crate) local: Routes,
}

impl Gateway {
    /// The principal of whoever sent these headers.
    pub(crate) async fn principal(&self, headers: &HeaderMap) -> Result<HeaderValue, Status> {
        self.keys.principal(headers, Timestamp::now().as_microsecond()).await
    }
}
