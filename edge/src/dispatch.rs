//! One port for everything: by content type and path, a request is gRPC, gRPC-Web, REST or a redirect. This is the one place
//! that tells them apart.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::header;
use hyper::body::Incoming;
use service::HttpMetrics;

use crate::body::Body;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::grpc;
use crate::grpc::Dialect;
use crate::methods;
use crate::observed::Observation;
use crate::redirect::Redirects;
use crate::rest;

/// Under what a request for a short link is counted.
const SLUG_ROUTE: &str = "/{slug}";
/// Under what everything is counted that leads nowhere.
const UNKNOWN_ROUTE: &str = "unknown";

/// The edge, as a connection sees it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) redirects: Redirects,
    pub(crate) gateway: Gateway,
    pub(crate) http: HttpMetrics,
}

/// Answers a request.
pub(crate) async fn answer(
    edge: Arc<Edge>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let began = Instant::now();
    if is_for_slug(&request) {
        let response = edge.redirects.answer(peer.ip(), &request).await;
        let method = if request.method() == Method::HEAD { "HEAD" } else { "GET" };
        let status = response.status().as_u16();
        edge.http.observe(method, SLUG_ROUTE, status, "", began.elapsed());
        return Ok(response);
    }
    Ok(Box::pin(call(edge, request, began)).await)
}

/// Whether a request is for a short link: one segment, and nothing that says gRPC.
fn is_for_slug<B>(request: &Request<B>) -> bool {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let path = request.uri().path();
    let is_one_segment = path.len() > 1 && !path[1..].contains('/');
    is_read && is_one_segment && Dialect::of(request.headers()).is_none()
}

async fn call(edge: Arc<Edge>, request: Request<Incoming>, began: Instant) -> Response<Body> {
    let gateway = &edge.gateway;
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let Some(preflight) = gateway.cors.preflight(&request) {
        return preflight;
    }
    let is_head = request.method() == Method::HEAD;
    let mut observation = Observation {
        http: edge.http.clone(),
        method: static_method(request.method()),
        route: UNKNOWN_ROUTE,
        began,
        is_grpc: false,
    };
    let outcome = match Dialect::of(request.headers()) {
        Some(dialect) => {
            observation.is_grpc = true;
            if let Some(method) = methods::find(request.uri().path()) {
                observation.route = method.path;
            }
            grpc::answer(gateway, dialect, request).await
        }
        None => match find_rest(&request) {
            Ok((found, method)) => {
                observation.route = method.path;
                rest::answer(gateway, found, method, request).await
            }
            Err(fault) => Err(fault),
        },
    };
    let mut response = outcome.unwrap_or_else(|fault| {
        observation.is_grpc = false;
        fault.into_response()
    });
    gateway.cors.allow(origin.as_ref(), response.headers_mut());
    if is_head {
        // The same headers, and no body: its length is said as for GET where it is known.
        let length = http_body::Body::size_hint(response.body()).exact();
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response = response.map(|_| Body::Empty);
    }
    observation.attach(response)
}

fn find_rest<B>(
    request: &Request<B>,
) -> Result<(transcode::Match<'static>, methods::Method), Fault> {
    let path = request.uri().path();
    if path.starts_with("/v1/") {
        return rest::find(request);
    }
    let is_slug_like = path.len() > 1 && !path[1..].contains('/');
    Err(if is_slug_like { Fault::method_not_allowed("GET, HEAD") } else { Fault::path_unknown() })
}

/// Nothing a client sends becomes a label.
fn static_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
