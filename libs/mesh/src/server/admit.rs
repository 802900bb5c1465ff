//! What a call passes before its handler, in order: who may call, the deadline, the principal; and after: what is counted.

use super::Access;
use super::Shared;
use super::body::ServerBody;
use super::tap::Arrival;
use super::tap::TappedBody;
use super::tap::TappedCall;
use crate::channel::DEADLINE_DEFAULT;
use crate::identity::OPERATOR;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use crate::inherited::Inherited;
use crate::instance_probe;
use crate::methods::METHODS;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::grpc_service;
use crate::metrics::PairMetrics;
use crate::policy::Criticality;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use hyper::body::Incoming;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use rpc::Principal;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tower::Service as _;

/// The services that prove who a call is made for. Nobody else's word counts.
const MAY_ASSERT_PRINCIPAL: [&str; 2] = ["edge", OPERATOR];

/// What a server lets in, before it is known who calls.
pub(super) struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) routes: Routes,
}

impl Admission {
    pub(super) fn of_peer(self, peer: PeerIdentity) -> Admitted {
        let metrics = self.shared.metrics_of(&peer.service);
        Admitted { shared: self.shared, routes: self.routes, peer, metrics }
    }
}

/// The calls of one connection.
pub(super) struct Admitted {
    shared: Arc<Shared>,
    routes: Routes,
    peer: PeerIdentity,
    metrics: Arc<PairMetrics>,
}

impl hyper::service::Service<http::Request<Incoming>> for Admitted {
    type Response = http::Response<ServerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        if instance_probe::is_asked(&request) {
            let response = instance_probe::response(&self.shared.instance);
            return Box::pin(std::future::ready(Ok(response)));
        }
        let started = Instant::now();
        let method = METHODS.of_path(request.uri().path());
        let tap = self.shared.taps.begin(&Arrival {
            caller: self.peer.service.as_str(),
            method,
            path: request.uri().path(),
            headers: request.headers(),
            now: started,
        });
        let metrics = Arc::clone(&self.metrics);
        let record = Record { metrics, method, started, tap: tap.clone() };
        match self.admit(request, method, started) {
            Err(status) => {
                record.refused(&status);
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
            Ok((request, deadline)) => {
                let request = match tap {
                    None => request.map(Body::new),
                    Some(call) => request.map(|body| Body::new(TappedBody { body, call })),
                };
                Box::pin(handle(self.routes.clone(), request, deadline, record))
            }
        }
    }
}

impl Admitted {
    fn admit(
        &self,
        mut request: http::Request<Incoming>,
        method: &Method,
        now: Instant,
    ) -> Result<(http::Request<Incoming>, Option<Deadline>), Status> {
        let peer = self.peer.service.as_str();
        let service = grpc_service(request.uri().path()).ok_or_else(|| {
            Status::from(rpc::Error::new(
                tonic::Code::Unimplemented,
                ErrorReason::MethodUnknown,
                "the path names no gRPC method",
            ))
        })?;
        if !self.shared.access.allows(peer, service) {
            return Err(rpc::Error::peer_not_allowed(peer).into());
        }
        if self.peer.role == Role::Viewer && !method.only_reads && !Access::is_open_to_any(service)
        {
            let mut error = rpc::Error::peer_not_allowed(peer);
            error.message =
                format!("`{}` may look and change nothing: this takes an admin", self.peer);
            return Err(error.into());
        }

        let deadline = deadline(request.headers(), method, now)?;
        if deadline.is_some_and(|deadline| deadline.left(now).is_zero()) {
            return Err(rpc::Error::deadline_exceeded().into());
        }
        let principal = principal(request.headers_mut(), &self.peer)?;

        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        if let Some(deadline) = deadline {
            extensions.insert(deadline);
        }
        if let Some(principal) = principal {
            extensions.insert(principal);
        }
        Ok((request, deadline))
    }
}

/// What the caller says; otherwise the default, for a unary call.
fn deadline(
    headers: &HeaderMap,
    method: &Method,
    now: Instant,
) -> Result<Option<Deadline>, rpc::Error> {
    if let Some(value) = headers.get(Deadline::HEADER) {
        return Deadline::parse(value.to_str().unwrap_or_default(), now).map(Some);
    }
    let unary = method.requests == Messages::One && method.responses == Messages::One;
    Ok(unary.then_some(Deadline(now + DEADLINE_DEFAULT)))
}

/// Takes the principal out of the metadata: a handler finds it in the extensions, proved, or nowhere.
fn principal(
    headers: &mut HeaderMap,
    peer: &PeerIdentity,
) -> Result<Option<Principal>, rpc::Error> {
    if !headers.contains_key(Principal::METADATA_KEY) {
        return Ok(None);
    }
    // A viewer looks at the mesh, not at what is the tenants'.
    if !MAY_ASSERT_PRINCIPAL.contains(&peer.service.as_str()) || peer.role == Role::Viewer {
        let mut error = rpc::Error::peer_not_allowed(peer.service.as_str());
        error.message = format!("`{peer}` may not say who a call is made for");
        return Err(error);
    }
    let mut metadata = MetadataMap::from_headers(std::mem::take(headers));
    let principal = one_principal(&metadata);
    metadata.remove_bin(Principal::METADATA_KEY);
    *headers = metadata.into_headers();
    principal.map(Some)
}

fn one_principal(metadata: &MetadataMap) -> Result<Principal, rpc::Error> {
    let wrong =
        |what: &str| rpc::Error::malformed(format!("`{}`: {what}", Principal::METADATA_KEY));
    let mut values = metadata.get_all_bin(Principal::METADATA_KEY).into_iter();
    let value = values.next().ok_or_else(|| wrong("is empty"))?;
    if values.next().is_some() {
        return Err(wrong("must be there once"));
    }
    let bytes = value.to_bytes().map_err(|_| wrong("is not base64"))?;
    Principal::decode(&bytes)
}

async fn handle(
    mut routes: Routes,
    request: http::Request<Body>,
    deadline: Option<Deadline>,
    record: Record,
) -> Result<http::Response<ServerBody>, Infallible> {
    let criticality = Criticality::of_headers(request.headers());
    let inherited = Inherited { deadline, criticality };
    let handling = inherited.scope(routes.call(request));
    let handled = match deadline {
        None => Ok(handling.await),
        Some(deadline) => tokio::time::timeout_at(deadline.0.into(), handling).await,
    };
    let Ok(Ok(response)) = handled else {
        let status = Status::from(rpc::Error::deadline_exceeded());
        record.refused(&status);
        return Ok(status.into_http());
    };
    let (head, body) = response.into_parts();
    let body = match record.method.responses {
        Messages::One => body,
        Messages::Stream => inherited.scope_body(body),
    };
    let body = ServerBody::new(body, &head.headers, deadline, record);
    Ok(http::Response::from_parts(head, body))
}

/// What is counted of a call.
pub(super) struct Record {
    metrics: Arc<PairMetrics>,
    method: &'static Method,
    started: Instant,
    /// If someone watches.
    pub(super) tap: Option<Arc<TappedCall>>,
}

impl Record {
    /// It ended with this code, and this in words.
    pub(super) fn finish(self, code: tonic::Code, message: &str) {
        self.metrics.observe(self.method, code, self.started.elapsed());
        if let Some(tap) = self.tap {
            tap.end(code, message);
        }
    }

    /// It was not done.
    fn refused(self, status: &Status) {
        self.finish(status.code(), status.message());
    }
}
