//! What every API call needs, whatever its protocol.

use http::HeaderMap;
use http::HeaderValue;
use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::cors::Cors;
use crate::grants::Grants;
use crate::keys::Keys;
use crate::methods::Method;
use crate::tokens;
use crate::tokens::Tokens;

/// The way from clients to services. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) mesh: mesh::Mesh,
    pub(crate) keys: Keys,
    pub(crate) tokens: Tokens,
    pub(crate) grants: Grants,
    pub(crate) body_bytes_max: usize,
    pub(crate) cors: Cors,
    /// Health and reflection, which the edge answers itself.
    pub(crate) local: Routes,
    /// Cancelled when the edge stops: streams end then, which would otherwise hold the stop for as long as it may take.
    pub(crate) leaving: CancellationToken,
}

impl Gateway {
    /// The principal of whoever sent these headers; none for a method that does not ask.
    pub(crate) async fn principal(
        &self,
        method: Method,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Status> {
        if !method.asks_who {
            return Ok(None);
        }
        let now = Timestamp::now();
        if let Some(token) = tokens::presented(headers) {
            let who = self.tokens.signed_in(token, now.as_second()).await?;
            let now_micros = now.as_microsecond();
            return self.grants.principal(who.user, who.session, now_micros).await.map(Some);
        }
        self.keys.principal(headers, now.as_microsecond()).await.map(Some)
    }
}

/// How a stream ends that its client did not end: it can be had again elsewhere, from where it was.
pub(crate) fn leaving() -> Status {
    let why =
        "this edge is stopping; call again, and with the last resume token where there is one";
    Error::unavailable(ErrorReason::NoEndpoint, why).into()
}
