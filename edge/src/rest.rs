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
use rpc::Deadline;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::metadata::MetadataMap;
use tower::util::MapResponse;
use transcode::Framing;
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
use crate::gateway;
use crate::gateway::Gateway;
use crate::idempotency;
use crate::protocols;
use crate::protocols::Backend as _;
use crate::protocols::Method;
use crate::reply::Reply;
use crate::rest_stream;
use crate::statuses;
use crate::stream;
use crate::stream::Ends;
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

/// Answers a REST request.
pub(crate) async fn answer<B>(
    gateway: &Gateway,
    found: Match,
    method: &Method,
    request: Request<B>,
) -> Result<Response<Body>, Fault>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    if method.client_streams {
        return Box::pin(rest_stream::answer(gateway, found, method, request)).await;
    }
    let (head, body) = request.into_parts();
    let began = Instant::now();
    // First, so that nothing is refused for free.
    let metadata = gateway.admit(method, &head).await?;
    let deadline = upstream::deadline(&head.headers, method, began)?;
    access::note(&head.extensions, &metadata);
    let body = upstream::read_body(body, gateway.body_bytes_max, deadline).await?;
    let message = message(&found, &head, &body)?;
    let message = idempotency::identified(method, &head.headers, message)?;
    if method.server_streams {
        let answered =
            server_stream(gateway, found, method, &head.headers, metadata, deadline, message);
        return Box::pin(answered).await;
    }
    // A read's conditions are compared here, with what is answered.
    let versions =
        if is_read(&head.method) { Vec::new() } else { conditional::wanted(&head.headers)? };
    let conditional = versions.iter().map(|etag| found.with_etag(&message, etag));
    let conditional = conditional.collect::<Result<Vec<_>, _>>()?;
    let (metadata, message) = if conditional.is_empty() {
        protocols::call_one(gateway, method, metadata, deadline, &message).await?
    } else {
        Box::pin(change(gateway, method, &metadata, conditional, deadline)).await?
    };
    single_answer(&found, method, &head, &message, metadata).await
}

/// Answers with a stream.
async fn server_stream(
    gateway: &Gateway,
    found: Match,
    method: &Method,
    headers: &HeaderMap,
    metadata: HeaderMap,
    deadline: Deadline,
    message: Bytes,
) -> Result<Response<Body>, Fault> {
    let call = call(method, metadata, deadline, message);
    let mut client = client(gateway);
    let streaming = client.server_streaming(call, method.path_and_query.clone(), BytesCodec);
    let started = tokio::time::timeout_at(deadline.0.into(), streaming);
    let streaming = started.await.map_err(|_| Fault::deadline_exceeded())??;
    let leaving = gateway.leaving.clone();
    let (metadata, mut messages, _) = streaming.into_parts();
    let first = first_message(&found, &mut messages, deadline, &leaving).await?;
    let ends = Ends { deadline, leaving, refused: None };
    stream_answer(found, headers, metadata, first, messages, ends)
}

/// What calls services, and mends their answers.
pub(crate) fn client(
    gateway: &Gateway,
) -> tonic::client::Grpc<
    MapResponse<mesh::Mesh, impl Fn(Response<mesh::Body>) -> Response<tonic::body::Body> + Clone>,
> {
    let services = MapResponse::new(gateway.mesh.clone(), statuses::answer);
    tonic::client::Grpc::new(services).max_decoding_message_size(REPLY_BYTES_MAX)
}

/// A call that streams, and what the mesh is to know of it.
pub(crate) fn call<T>(
    method: &Method,
    mut metadata: HeaderMap,
    deadline: Deadline,
    sent: T,
) -> tonic::Request<T> {
    let left = HeaderValue::try_from(deadline.header(Instant::now()))
        .expect("digits and a letter make a header");
    metadata.insert(HeaderName::from_static(Deadline::HEADER), left);
    let mut call = tonic::Request::new(sent);
    *call.metadata_mut() = MetadataMap::from_headers(metadata);
    if let Some(traits) = method.traits {
        call.extensions_mut().insert(traits);
    }
    call
}

/// An answer of one message.
pub(crate) async fn single_answer(
    found: &Match,
    method: &Method,
    head: &Parts,
    message: &[u8],
    metadata: HeaderMap,
) -> Result<Response<Body>, Fault> {
    let reply = reply(found, method, head, message)?;
    let mut response = reply.answer(&head.headers, is_read(&head.method)).await?;
    pass_metadata(metadata, response.headers_mut());
    Ok(response)
}

/// Makes a change that is meant for any of some versions: the service compares one and changes at once, so they are tried in order.
/// What was done under a request id for a later one is found there again.
async fn change(
    gateway: &Gateway,
    method: &Method,
    metadata: &HeaderMap,
    messages: Vec<Bytes>,
    deadline: Deadline,
) -> Result<(HeaderMap, Bytes), Fault> {
    let mut reused = None;
    for message in messages {
        match protocols::call_one(gateway, method, metadata.clone(), deadline, &message).await {
            Err(fault) if fault.is_of_another_version() => {}
            Err(fault) if fault.is_request_id_reused() => reused = Some(fault),
            done => return done,
        }
    }
    Err(reused.unwrap_or_else(Fault::precondition_failed))
}

/// The method's message.
fn message(found: &Match, head: &Parts, body: &[u8]) -> Result<Bytes, Fault> {
    let resumed = resumed_query(found, &head.headers, head.uri.query());
    Ok(found.request(RequestParts {
        query: resumed.as_deref().or_else(|| head.uri.query()),
        content_type: text(&head.headers, &header::CONTENT_TYPE),
        body,
    })?)
}

/// The first message of a client's stream with the version that the client made a condition. What is read is compared here, with what
/// is answered.
pub(crate) fn under_condition(found: &Match, head: &Parts, message: Bytes) -> Result<Bytes, Fault> {
    if is_read(&head.method) {
        return Ok(message);
    }
    match conditional::wanted_of_stream(&head.headers)? {
        None => Ok(message),
        Some(etag) => Ok(found.with_etag(&message, &etag)?),
    }
}

/// Whether a client's stream must change a certain version.
///
/// # Errors
/// A condition that is none.
pub(crate) fn is_conditional(head: &Parts) -> Result<bool, Fault> {
    let is_stated = !is_read(&head.method);
    Ok(is_stated && conditional::wanted_of_stream(&head.headers)?.is_some())
}

fn is_read(method: &http::Method) -> bool {
    matches!(*method, http::Method::GET | http::Method::HEAD)
}

fn reply(found: &Match, method: &Method, head: &Parts, message: &[u8]) -> Result<Reply, Fault> {
    let reply = found.response(message).map_err(|error| Error::internal(&error))?;
    let media_type =
        HeaderValue::try_from(&*reply.media_type).map_err(|error| Error::internal(&error))?;
    let is_read = is_read(&head.method);
    let cache_control = if is_read { caching::of(method) } else { caching::NOBODY };
    let etag = found.etag(message);
    // What PATCH and PUT answer with is the resource under their path as it is now.
    let is_resource =
        etag.is_some() && matches!(head.method, http::Method::PATCH | http::Method::PUT);
    let version = (is_resource || (is_read && cache_control != caching::NOBODY))
        .then(|| Version::of(&reply.body, etag));
    let keys = is_read.then(|| caching::keys(head.uri.path())).flatten();
    Ok(Reply { media_type, body: reply.body, cache_control, version, keys })
}

/// The first message of a stream, or its end, which are waited for before the answer begins; none if nothing comes in time. Of raw
/// bytes it says what they are, so that one is waited for as long as the client waits.
pub(crate) async fn first_message(
    found: &Match,
    messages: &mut Streaming<Bytes>,
    deadline: Deadline,
    leaving: &CancellationToken,
) -> Result<Option<Option<Bytes>>, Fault> {
    if !found.route.answers_raw() {
        let first = tokio::time::timeout(FIRST_MESSAGE_WAIT, messages.message());
        return Ok(first.await.ok().transpose().map_err(statuses::unread)?);
    }
    let first = tokio::time::timeout_at(deadline.0.into(), messages.message());
    match leaving.run_until_cancelled(first).await {
        Some(Ok(first)) => Ok(Some(first.map_err(statuses::unread)?)),
        Some(Err(_)) => Err(Fault::deadline_exceeded()),
        None => Err(gateway::leaving().into()),
    }
}

pub(crate) fn stream_answer(
    found: Match,
    client: &HeaderMap,
    metadata: MetadataMap,
    first: Option<Option<Bytes>>,
    messages: Streaming<Bytes>,
    ends: Ends,
) -> Result<Response<Body>, Fault> {
    let is_raw = found.route.answers_raw();
    let framing =
        if is_raw { Framing::Raw } else { Framing::accepted(text(client, &header::ACCEPT)) };
    let media_type = match &first {
        Some(Some(message)) if is_raw => {
            let reply = found.response(message).map_err(|error| Error::internal(&error))?;
            HeaderValue::try_from(&*reply.media_type).map_err(|error| Error::internal(&error))?
        }
        _ => HeaderValue::from_static(framing.media_type()),
    };
    let told = Told { framing, form: fault::form(client) };
    let body = stream::body(found, told, first, messages, ends);
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
pub(crate) fn resumed_query(
    found: &Match,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Option<String> {
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

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
