//! One port for everything: by content type and path, a request is gRPC, gRPC-Web, Connect, REST or a redirect. This is the one place
//! that tells them apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::uri::Authority;
use hyper::body::Incoming;
use rpc::trace::Carried;
use service::HttpMetrics;
use tracing::Instrument as _;
use tracing::Span;

use crate::access::Access;
use crate::access::Entry;
use crate::access::Line;
use crate::body::Body;
use crate::contract;
use crate::contract::Contract;
use crate::documents;
use crate::fault;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::limits::Client;
use crate::listener::Handler;
use crate::observed::Observation;
use crate::protocols;
use crate::protocols::Call;
use crate::protocols::Outcome;
use crate::received::Received;
use crate::redirect::Redirects;
use crate::rest;
use crate::security;
use crate::upstream;

/// Under what a request for a short link is counted.
const SLUG_ROUTE: &str = "/{slug}";
/// Whose methods are told which network a call is from: those that can be guessed at.
const IDENTITY: &str = "/linkmesh.identity.";
/// Under what everything is counted that leads nowhere.
const UNKNOWN_ROUTE: &str = "unknown";

/// The edge, as a connection sees it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) redirects: Redirects,
    pub(crate) gateway: Gateway,
    pub(crate) http: HttpMetrics,
    pub(crate) access: Access,
    /// Whether the public port speaks TLS.
    pub(crate) is_tls: bool,
}

impl Handler for Arc<Edge> {
    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        answer(self, peer, request).await
    }
}

async fn answer(edge: &Arc<Edge>, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let began = Instant::now();
    if has_two_hosts(&request) {
        return Fault::host_ambiguous().into_response(fault::form(request.headers()));
    }
    if is_for_slug(&request) {
        let is_head = request.method() == Method::HEAD;
        let method = if is_head { "HEAD" } else { "GET" };
        // Below the usual level: a span for each redirect costs more than the redirect.
        let span = tracing::debug_span!("redirect", method, route = SLUG_ROUTE);
        rpc::trace::adopt(&span, request.headers());
        let carried = Carried::of(request.headers());
        // In one expression: what has a name has a place of its own in this future, which is moved whole for every request.
        let mut response =
            carried.scope(edge.redirects.answer(peer.ip(), &request, began).instrument(span)).await;
        if edge.is_tls {
            security::require_tls(response.headers_mut());
        }
        let (status, took) = (response.status().as_u16(), began.elapsed());
        tracing::debug!(method, route = SLUG_ROUTE, status, ?took, "answered");
        edge.http.observe(method, SLUG_ROUTE, status, "", took);
        let line =
            Line { method, route: SLUG_ROUTE, status, grpc_code: "", took, bytes: 0, entry: None };
        edge.access.redirect(&line);
        return response;
    }
    Box::pin(call(edge, peer, request, began)).await
}

/// Whether nobody can tell which host is meant: RFC 9112, section 3.2, and RFC 9113, section 8.3.1, want such a request refused,
/// since a proxy before us may have gone by the other one.
fn has_two_hosts<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return false };
    // In HTTP/1.1, a target with a host of its own goes before the header.
    let authority = request.uri().authority().filter(|_| request.version() == Version::HTTP_2);
    let is_same =
        |authority: &Authority| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    hosts.next().is_some() || !authority.is_none_or(is_same)
}

/// Whether a request is for a short link: one segment, and nothing that says gRPC.
fn is_for_slug<B>(request: &Request<B>) -> bool {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let path = request.uri().path();
    let is_one_segment = path.len() > 1 && !path[1..].contains('/');
    let is_page = path == documents::PAGE_PATH;
    is_read && is_one_segment && !is_page && !protocols::is_grpc(request.headers())
}

async fn call(
    edge: &Edge,
    peer: SocketAddr,
    request: Request<Incoming>,
    began: Instant,
) -> Response<Body> {
    let gateway = &edge.gateway;
    let version = request.version();
    let mut request = request.map(|body| Received::new(body, version));
    let origin = request.headers().get(header::ORIGIN).cloned();
    let form = fault::form(request.headers());
    if let Some(preflight) = gateway.cors.preflight(&request) {
        return preflight;
    }
    let is_head = request.method() == Method::HEAD;
    let http_method = static_method(request.method());
    let mut entry = edge.access.entry(request.headers());
    if let Some(entry) = &entry {
        request.extensions_mut().insert(entry.asked());
    }
    let observation = |route, outcome, entry| Observation {
        http: edge.http.clone(),
        method: http_method,
        route,
        began,
        outcome,
        access: edge.access.clone(),
        entry,
    };
    let client = Client::at(edge.redirects.proxies.client(peer.ip(), request.headers()));
    // Kept to the end: what holds meanwhile for others is nothing to this request.
    let contract = gateway.contracts.current();
    if let Some(document) = documents::find(request.uri().path(), &contract) {
        let answer = async {
            gateway.charge_stray(&client).await?;
            document.answer(request.method(), request.headers()).await
        };
        let answer = Box::pin(answer).await;
        let mut response = answer.unwrap_or_else(|fault| fault.into_response(form));
        tell(gateway, &client, &mut response);
        gateway.cors.allow(origin.as_ref(), response.headers_mut());
        security::add(response.headers_mut(), edge.is_tls);
        let response = if is_head { headless(response) } else { response };
        return observation(document.path, None, entry).attach(response);
    }
    let (head, body) = request.into_parts();
    let named = contract.method(head.uri.path());
    let spoken = Call::of(&head, named);
    request = Request::from_parts(head, body);
    let found = if spoken.is_none() { Some(find_rest(&contract, &request)) } else { None };
    let method = named.or_else(|| found.as_ref()?.as_ref().ok().map(|(_, method)| *method));
    if method.is_some_and(|method| method.path.starts_with(IDENTITY))
        && let Some(network) = edge.redirects.network(client.address)
    {
        request.extensions_mut().insert(network);
    }
    request.extensions_mut().insert(client.clone());
    let carried = Carried::of(request.headers());
    let (mut response, observation) = match spoken {
        Some(Ok(call)) => {
            let outcome = Outcome::default();
            let route = named.map_or(UNKNOWN_ROUTE, |method| method.label);
            let span = tracing::info_span!("request", route);
            adopt(&span, request.headers(), entry.as_mut());
            // On the heap by itself, as below: kilobytes that would be moved with each future around it.
            let answer = Box::pin(protocols::answer(gateway, call, request, &outcome));
            let answer = answer.instrument(span);
            (carried.scope(answer).await, observation(route, Some(outcome), entry))
        }
        Some(Err(fault)) => {
            let route = named.map_or(UNKNOWN_ROUTE, |method| method.label);
            let fault = match gateway.charge_stray(&client).await {
                Ok(()) => {
                    if request.version() < Version::HTTP_2 {
                        Box::pin(upstream::linger(request.into_body())).await;
                    }
                    fault
                }
                Err(refused) => Fault::from(refused),
            };
            (fault.into_response(form), observation(route, None, entry))
        }
        None => {
            let found = found.unwrap_or_else(|| Err(Fault::path_unknown()));
            let route = found.as_ref().map_or(UNKNOWN_ROUTE, |(_, method)| method.label);
            let span = tracing::info_span!("request", route);
            adopt(&span, request.headers(), entry.as_mut());
            let answer = Box::pin(async {
                let (found, method) = match found {
                    Ok(found) => found,
                    Err(fault) => {
                        gateway.charge_stray(&client).await?;
                        return Err(fault);
                    }
                };
                rest::answer(gateway, found, method, request).await
            });
            let outcome = carried.scope(answer.instrument(span)).await;
            let response =
                outcome.unwrap_or_else(|fault| fault.into_response_of(form, contract.schema()));
            (response, observation(route, None, entry))
        }
    };
    tell(gateway, &client, &mut response);
    gateway.cors.allow(origin.as_ref(), response.headers_mut());
    security::add(response.headers_mut(), edge.is_tls);
    if is_head {
        response = headless(response);
    }
    observation.attach(response)
}

/// Has an answer say how its client stands with its limits, unless it is kept for others too.
fn tell(gateway: &Gateway, client: &Client, response: &mut Response<Body>) {
    let decided = client.told().filter(|_| !is_for_shared_caches(response.headers()));
    if let Some(verdict) = decided {
        verdict.add_headers(response.headers_mut(), gateway.limits.has_draft_headers());
    }
}

/// Makes a span part of the trace that a request names, and notes that for the request's line in the access log.
fn adopt(span: &Span, headers: &HeaderMap, entry: Option<&mut Entry>) {
    rpc::trace::adopt(span, headers);
    if let Some(entry) = entry {
        entry.trace(span, headers);
    }
}

/// Whether an answer may be kept for others than its client: what is said of one's limits is nothing to them.
fn is_for_shared_caches(headers: &HeaderMap) -> bool {
    let control = headers.get(header::CACHE_CONTROL);
    control.is_some_and(|control| control.as_bytes().starts_with(b"public"))
}

/// The answer to HEAD: the same headers, and no body; its length is said as for GET where it is known.
fn headless(mut response: Response<Body>) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact();
    if let Some(length) = length.filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| Body::Empty)
}

fn find_rest<'c, B>(
    contract: &'c Contract,
    request: &Request<B>,
) -> Result<(transcode::Match, &'c protocols::Method), Fault> {
    let path = request.uri().path();
    if contract::REST.iter().any(|prefix| path.starts_with(prefix)) {
        return contract.rest(request.method(), path);
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
