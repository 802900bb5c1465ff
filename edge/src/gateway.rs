//! What every API call needs, whatever its protocol.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::request::Parts;
use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tower::ServiceExt as _;

use crate::cors::Cors;
use crate::grants::Grants;
use crate::health;
use crate::keys::Keys;
use crate::methods;
use crate::protocols::Backend;
use crate::protocols::Codings;
use crate::protocols::Method;
use crate::statuses;
use crate::tokens;
use crate::tokens::Tokens;
use crate::upstream;

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
    async fn principal(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Status> {
        if !methods::asks_who(method) {
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

impl Backend for Gateway {
    const REFUSAL: fn(Status) -> Status = statuses::fit;

    fn method(&self, path: &str) -> Option<&'static Method> {
        methods::find(path).or_else(|| methods::find_local(path))
    }

    fn message_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    fn codings(&self) -> Codings {
        // Services are near: what they would save on the way they would spend on the work.
        Codings::NONE
    }

    fn timeout_max(&self, method: &Method) -> Option<Duration> {
        Some(upstream::timeout_max(method))
    }

    /// Nothing of a client's own metadata passes, so that nothing can pass for ours: no `linkmesh-*`, no `grpc-internal-*`, no
    /// forwarding header.
    async fn admit(&self, method: &Method, head: &Parts) -> Result<HeaderMap, Status> {
        let principal = self.principal(method, &head.headers).await?;
        Ok(upstream::metadata(principal, &head.extensions))
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if health::local_service(request.uri().path()).is_some() {
            let answered = self.local.clone().call(request).await;
            return Ok(answered.unwrap_or_else(|never| match never {}));
        }
        let mut mesh = self.mesh.clone();
        Ok(statuses::answer(mesh.ready().await?.call(request).await?))
    }

    fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }
}

/// How a stream ends that its client did not end: it can be had again elsewhere, from where it was.
pub(crate) fn leaving() -> Status {
    let why =
        "this edge is stopping; call again, and with the last resume token where there is one";
    Error::unavailable(ErrorReason::NoEndpoint, why).into()
}
