//! REST: a request to a method's message and back, by the descriptors; no route is written by hand.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use http::request::Parts;
use http::uri::PathAndQuery;
use rpc::Deadline;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tower::util::MapResponse;
use transcode::Framing;
use transcode::Lookup;
use transcode::Match;
use transcode::RequestParts;

use crate::access;
use crate::body::Body;
use crate::body::BoxError;
use crate::caching;
use crate::conditional;
use crate::conditional::Version;
use crate::cors::HOP_BY_HOP;
use crate::fault;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::idempotency;
use crate::methods;
use crate::methods::ROUTES;
use crate::protocols::Backend as _;
use crate::protocols::Method;
use crate::reply::Reply;
use crate::statuses;
use crate::stream;
use crate::stream::Told;
use crate::upstream;
use crate::upstream::BytesCodec;

/// How long the first message of a stream is waited for before the answer begins: what fails until then fails with its own
/// status.
const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a service's message. Twice what the largest request takes, which a service may answer with all that it made.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Headers that are said here, and by no service.
const OURS: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::DATE,
    header::CACHE_CONTROL,
    header::ETAG,
    header::VARY,
    caching::SURROGATE_KEY,
];
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a REST path leads to, for metrics and for the call.
pub(crate) fn find<B>(request: &Request<B>) -> Result<(Match<'static>, &'static Method), Fault> {
    match ROUTES.find(request.method(), request.uri().path()) {
        Lookup::Found(found) => {
            let method = methods::find(&found.route.grpc_path).ok_or_else(Fault::path_unknown)?;
            Ok((found, method))
        }
        Lookup::MethodNotAllowed { allow } => Err(Fault::method_not_allowed(&allow)),
        Lookup::NotFound => Err(Fault::path_unknown()),
    }
}

/// Answers a REST request.
pub(crate) async fn answer<B>(
    gateway: &Gateway,
    found: Match<'static>,
    method: &'static Method,
    request: Request<B>,
) -> Result<Response<Body>, Fault>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let deadline = upstream::deadline(&head.headers, method, Instant::now())?;
    let metadata = gateway.admit(method, &head).await?;
    access::note(&head.extensions, &metadata);
    let body = upstream::read_body(body, gateway.body_bytes_max, deadline).await?;
    let message = message(&found, &head, &body)?;
    let message = idempotency::identified(method, &head.headers, message)?;
    // A read's conditions are compared here, with what is answered.
    let versions =
        if is_read(&head.method) { Vec::new() } else { conditional::wanted(&head.headers)? };
    let conditional = versions.iter().map(|etag| found.with_etag(&message, etag));
    let conditional = conditional.collect::<Result<Vec<_>, _>>()?;
    if method.server_streams {
        let (mut client, call) = call(gateway, metadata, message, deadline);
        let path = PathAndQuery::from_static(&method.path);
        let started = client.server_streaming(call, path, BytesCodec);
        let streaming = tokio::time::timeout_at(deadline.0.into(), started).await;
        let streaming = streaming.map_err(|_| Fault::deadline_exceeded())??;
        let leaving = gateway.leaving.clone();
        return stream_answer(found, &head.headers, streaming, deadline, leaving).await;
    }
    let answer = if conditional.is_empty() {
        unary(gateway, method, metadata, message, deadline).await?
    } else {
        Box::pin(change(gateway, method, &metadata, conditional, deadline)).await?
    };
    let (metadata, message, _) = answer.into_parts();
    let mut response =
        reply(&found, &head, &message)?.answer(&head.headers, is_read(&head.method)).await?;
    pass_metadata(metadata.into_headers(), response.headers_mut());
    Ok(response)
}

type Services = MapResponse<mesh::Mesh, fn(Response<mesh::Body>) -> Response<tonic::body::Body>>;

/// A call, and what makes it.
fn call(
    gateway: &Gateway,
    mut metadata: HeaderMap,
    message: Bytes,
    deadline: Deadline,
) -> (tonic::client::Grpc<Services>, tonic::Request<Bytes>) {
    let left = HeaderValue::try_from(deadline.header(Instant::now()))
        .expect("digits and a letter make a header");
    metadata.insert(HeaderName::from_static(Deadline::HEADER), left);
    let mut call = tonic::Request::new(message);
    *call.metadata_mut() = tonic::metadata::MetadataMap::from_headers(metadata);
    let services = MapResponse::new(gateway.mesh.clone(), statuses::answer as fn(_) -> _);
    let client = tonic::client::Grpc::new(services).max_decoding_message_size(REPLY_BYTES_MAX);
    (client, call)
}

/// Calls a method that answers with one message.
async fn unary(
    gateway: &Gateway,
    method: &'static Method,
    metadata: HeaderMap,
    message: Bytes,
    deadline: Deadline,
) -> Result<tonic::Response<Bytes>, Fault> {
    let (mut client, call) = call(gateway, metadata, message, deadline);
    let called = client.unary(call, PathAndQuery::from_static(&method.path), BytesCodec);
    let answer = tokio::time::timeout_at(deadline.0.into(), called).await;
    let answer = answer.map_err(|_| Fault::deadline_exceeded())?;
    answer.map_err(|status| Fault::from(statuses::unread(status)))
}

/// Makes a change that is meant for any of some versions: the service compares one and changes at once, so they are tried in order.
/// What was done under a request id for a later one is found there again.
async fn change(
    gateway: &Gateway,
    method: &'static Method,
    metadata: &HeaderMap,
    messages: Vec<Bytes>,
    deadline: Deadline,
) -> Result<tonic::Response<Bytes>, Fault> {
    let mut reused = None;
    for message in messages {
        match unary(gateway, method, metadata.clone(), message, deadline).await {
            Err(fault) if fault.is_of_another_version() => {}
            Err(fault) if fault.is_request_id_reused() => reused = Some(fault),
            done => return done,
        }
    }
    Err(reused.unwrap_or_else(Fault::precondition_failed))
}

/// The method's message.
fn message(found: &Match<'_>, head: &Parts, body: &[u8]) -> Result<Bytes, Fault> {
    let resumed = resumed_query(found, &head.headers, head.uri.query());
    Ok(found.request(RequestParts {
        query: resumed.as_deref().or_else(|| head.uri.query()),
        content_type: text(&head.headers, &header::CONTENT_TYPE),
        body,
    })?)
}

fn is_read(method: &http::Method) -> bool {
    matches!(*method, http::Method::GET | http::Method::HEAD)
}

fn reply(found: &Match<'_>, head: &Parts, message: &[u8]) -> Result<Reply, Fault> {
    let reply = found.response(message).map_err(|error| Error::internal(&error))?;
    let media_type =
        HeaderValue::try_from(&*reply.media_type).map_err(|error| Error::internal(&error))?;
    let is_read = is_read(&head.method);
    let cache_control = if is_read { caching::of(&found.route.grpc_path) } else { caching::NOBODY };
    let etag = found.etag(message);
    // What PATCH and PUT answer with is the resource under their path as it is now.
    let is_resource =
        etag.is_some() && matches!(head.method, http::Method::PATCH | http::Method::PUT);
    let version = (is_resource || (is_read && cache_control != caching::NOBODY))
        .then(|| Version::of(&reply.body, etag));
    let keys = is_read.then(|| caching::keys(head.uri.path())).flatten();
    Ok(Reply { media_type, body: reply.body, cache_control, version, keys })
}

async fn stream_answer(
    found: Match<'static>,
    client: &HeaderMap,
    streaming: tonic::Response<Streaming<Bytes>>,
    deadline: Deadline,
    leaving: CancellationToken,
) -> Result<Response<Body>, Fault> {
    let is_raw = found.route.answers_raw();
    let framing =
        if is_raw { Framing::Raw } else { Framing::accepted(text(client, &header::ACCEPT)) };
    let (metadata, mut messages, _) = streaming.into_parts();
    let first = match tokio::time::timeout(FIRST_MESSAGE_WAIT, messages.message()).await {
        Ok(first) => Some(first.map_err(statuses::unread)?),
        Err(_) => None,
    };
    let media_type = match &first {
        Some(Some(message)) if is_raw => {
            let reply = found.response(message).map_err(|error| Error::internal(&error))?;
            HeaderValue::try_from(&*reply.media_type).map_err(|error| Error::internal(&error))?
        }
        _ => HeaderValue::from_static(framing.media_type()),
    };
    let told = Told { framing, form: fault::form(client) };
    let body = stream::body(found, told, first, messages, deadline, leaving);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    pass_metadata(metadata.into_headers(), headers);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache, no-transform"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, origin"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// What a service says beside its answer, without what belongs to gRPC or to a connection.
fn pass_metadata(metadata: HeaderMap, into: &mut HeaderMap) {
    let mut current = None;
    for (name, value) in metadata {
        current = name.or(current);
        let Some(name) = &current else { continue };
        let is_grpc = name.as_str().starts_with("grpc-");
        if !is_grpc && !OURS.contains(name) && !HOP_BY_HOP.contains(name) {
            into.append(name.clone(), value);
        }
    }
}

/// `last-event-id` of a browser that reconnects, as the `resume_token` of a method that has one.
fn resumed_query(found: &Match<'_>, headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let token = text(headers, &LAST_EVENT_ID).filter(|token| !token.is_empty())?;
    let method = &found.route.method;
    if !method.is_server_streaming() || method.input().get_field_by_name("resume_token").is_none() {
        return None;
    }
    let token = percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
    // A browser repeats the query that it began with: the id of what it saw last is newer.
    let others = query.unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !["resume_token", "resumeToken"].contains(&name)
    });
    let mut query: Vec<String> = others.map(str::to_owned).collect();
    query.push(format!("resume_token={token}"));
    Some(query.join("&"))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
