//! gRPC, gRPC-Web and Connect before services that speak gRPC.
//!
//! A call is told by [`Call::of`], read by `inbound`, made by a [`Backend`] and answered by `outbound`. Protobuf in frames is never
//! decoded: between gRPC, gRPC-Web and Connect's streams only what stands around the frames differs. What a method takes as one
//! message is read whole before a service hears of it; streams pass message by message.

mod backend;
mod call;
mod coding;
mod connect;
mod frame;
mod inbound;
mod method;
mod outbound;
mod outcome;
mod remake;
mod text;
mod unary;

use std::pin::Pin;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method as HttpMethod;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;
use http_body_util::Full;
use rpc::Deadline;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::Status;

use crate::access;
use crate::body::Body;
use crate::body::BoxError;
use crate::cors::HOP_BY_HOP;
use crate::fault;
use crate::fault::Fault;
use crate::protocols::call::Codec;
use crate::protocols::call::Protocol;
use crate::protocols::connect::GetQuery;
use crate::protocols::frame::Rules;
use crate::protocols::inbound::Inbound;
use crate::protocols::inbound::One;
use crate::protocols::outbound::Ends;
use crate::protocols::outbound::Outbound;
use crate::protocols::remake::Remake;
use crate::protocols::remake::Translation;
use crate::upstream;
use crate::upstream::STREAM_MAX;

pub use backend::Backend;
pub(crate) use call::Call;
pub(crate) use call::is_grpc;
pub use coding::Coding;
pub use coding::Codings;
pub(crate) use coding::WORTH_BYTES_MIN;
pub use method::Method;
pub use method::Methods;
pub(crate) use outbound::broken_off;
pub(crate) use outcome::Outcome;
pub(crate) use unary::call_one;

/// Bytes of a service's message, where it is read here. Twice what the largest request takes, which a service may answer with all
/// that it made.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// How much later than the deadline an answer is given up: the mesh keeps the deadline itself, and counts what it ends.
const GRACE: Duration = Duration::from_millis(100);
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static(Deadline::HEADER);

/// Answers a request that is a call of one of these methods, and any other with 404.
pub async fn respond<G, B>(backend: &G, methods: &Methods, request: Request<B>) -> Response<Body>
where
    G: Backend,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let spoken = Call::of(&head, methods.find(head.uri.path()));
    match spoken.unwrap_or_else(|| Err(Fault::path_unknown())) {
        Ok(call) => {
            let request = Request::from_parts(head, body);
            answer(backend, call, request, &Outcome::default()).await
        }
        Err(fault) => {
            if head.version < Version::HTTP_2 {
                Box::pin(upstream::linger(body)).await;
            }
            fault.into_response(fault::form(&head.headers))
        }
    }
}

/// Answers a call; what fails is said in the call's own protocol.
pub(crate) async fn answer<G, B>(
    backend: &G,
    call: Call<'_>,
    request: Request<B>,
    outcome: &Outcome,
) -> Response<Body>
where
    G: Backend,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    // Over HTTP/1.1 a client may read no answer before it has sent all.
    let lingers = head.version < Version::HTTP_2;
    let mut body = Some(body);
    match answer_or_fault(backend, call, head, &mut body, outcome).await {
        Ok(response) => response,
        Err(mut fault) => {
            outcome.tell(fault.status.code());
            if let Some(body) = body.take().filter(|_| lingers) {
                Box::pin(upstream::linger(body)).await;
            }
            let is_unknown_coding = fault.is_coding_unknown();
            *fault.status = G::REFUSAL(*fault.status);
            refuse(call, fault, is_unknown_coding)
        }
    }
}

async fn answer_or_fault<G, B>(
    backend: &G,
    call: Call<'_>,
    head: Parts,
    unread: &mut Option<B>,
    outcome: &Outcome,
) -> Result<Response<Body>, Fault>
where
    G: Backend,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let now = Instant::now();
    let Some(method) = call.method else {
        backend.stray(&head).await?;
        return Err(Fault::method_unknown());
    };
    // First, so that nothing is refused for free.
    let mut metadata = backend.admit(method, &head).await?;
    call.check(&head.headers)?;
    let longest = backend.timeout_max(method).map(|longest| Deadline(now + longest));
    let deadline = upstream::stated(&head.headers, now)?.into_iter().chain(longest).min();
    access::note(&head.extensions, &metadata);

    let query = (head.method == HttpMethod::GET)
        .then(|| GetQuery::of(head.uri.query().unwrap_or_default()));
    let coding = match &query {
        Some(query) => Coding::parse(query.compression.as_deref().unwrap_or_default())?,
        None => Coding::of(&head.headers, &call.coding_header())?,
    };
    let rules = Rules {
        bytes_max: backend.message_bytes_max(),
        may_be_compressed: coding != Coding::Identity,
    };
    let remake = inbound_remake(call, method, coding, backend.codings(), rules.bytes_max);
    if remake.is_none() && coding != Coding::Identity {
        metadata.insert(GRPC_ENCODING, coding.name());
    } else {
        metadata.remove(GRPC_ENCODING);
    }
    let accepted = Codings::accepted(&head.headers, &call.accepted_header());
    // JSON is made here, out of what is not compressed.
    let passed = if call.codec == Codec::Proto { accepted } else { Codings::NONE };
    match passed.and(backend.codings()).header() {
        Some(names) => metadata.insert(GRPC_ACCEPT_ENCODING, names),
        None => metadata.remove(GRPC_ACCEPT_ENCODING),
    };

    let mut ends =
        Ends { timer: deadline.map(timer), refusal: Some(G::REFUSAL), ..Ends::default() };
    let lingers = head.version < Version::HTTP_2;
    let body = if method.client_streams
        && let Some(body) = unread.take()
    {
        let (refuse, refused) = oneshot::channel();
        ends.refused = Some(refused);
        tonic::body::Body::new(Inbound::new(call, body, rules, remake, refuse, lingers))
    } else {
        let until = deadline.unwrap_or(Deadline(now + STREAM_MAX));
        let one = match (&query, unread.take()) {
            (Some(query), _) => get_message(query, rules)?,
            (None, Some(body)) => inbound::read_one(call, body, rules, until).await?,
            (None, None) => return Err(Fault::body_broken()),
        };
        let frame = one.into_frame(method, remake.as_ref(), &head.headers)?;
        tonic::body::Body::new(Full::new(frame))
    };
    let request = upstream_request(method, metadata, deadline, body);
    let mut response = called(backend, request, &mut ends).await?;
    if method.server_streams {
        ends.leaving = Some(Box::pin(backend.leaving().clone().cancelled_owned()));
    }
    if let Some(status) = not_grpc(&response) {
        return Err(status.into());
    }
    clean(response.headers_mut());
    if call.protocol == Protocol::ConnectUnary {
        let is_get = query.is_some();
        return unary::answer(call, method, response, accepted, ends, is_get, outcome).await;
    }
    Ok(framed(call, method, response, accepted, ends, outcome))
}

/// When an answer is given up.
fn timer(deadline: Deadline) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until((deadline.0 + GRACE).into()))
}

/// What must be done with a client's messages; nothing, if services read them as they are.
fn inbound_remake(
    call: Call<'_>,
    method: &Method,
    read: Coding,
    known: Codings,
    bytes_max: usize,
) -> Option<Remake> {
    let translation = match call.codec {
        Codec::Proto if known.contains(read) => return None,
        Codec::Proto => Translation::None,
        Codec::Json => Translation::FromJson(method.input.clone()),
    };
    Some(Remake { read, bytes_max, translation, write: Coding::Identity })
}

fn get_message(query: &GetQuery<'_>, rules: Rules) -> Result<One, Fault> {
    let message = query.message()?;
    if message.len() > rules.bytes_max {
        return Err(Fault::body_too_large(rules.bytes_max));
    }
    let flags = u8::from(rules.may_be_compressed && !message.is_empty());
    Ok(One { frame: frame::Frame { flags, message }, framed: None })
}

fn upstream_request(
    method: &Method,
    mut metadata: HeaderMap,
    deadline: Option<Deadline>,
    body: tonic::body::Body,
) -> Request<tonic::body::Body> {
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    match deadline.map(|deadline| deadline.header(Instant::now())) {
        Some(left) => {
            let left = HeaderValue::try_from(left).expect("digits and a letter make a header");
            metadata.insert(GRPC_TIMEOUT, left);
        }
        None => drop(metadata.remove(GRPC_TIMEOUT)),
    }
    let mut request = Request::new(body);
    *request.method_mut() = HttpMethod::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = method.uri.clone();
    *request.headers_mut() = metadata;
    if let Some(traits) = method.traits {
        request.extensions_mut().insert(traits);
    }
    request
}

/// Calls, for as long as nothing ends the call before.
async fn called<G: Backend>(
    backend: &G,
    request: Request<tonic::body::Body>,
    ends: &mut Ends,
) -> Result<Response<tonic::body::Body>, Fault> {
    let answered = {
        let ended = std::future::poll_fn(|cx| ends.poll(cx));
        tokio::select! {
            biased;
            status = ended => Err(status),
            answered = backend.call(request) => answered,
        }
    };
    answered.map_err(|status| ends.why(status).into())
}

/// What answers is no gRPC server: the code that its HTTP status stands for (gRPC's `http-grpc-status-mapping`).
fn not_grpc(response: &Response<tonic::body::Body>) -> Option<Status> {
    let http_status = response.status();
    if http_status == StatusCode::OK || response.headers().contains_key(Status::GRPC_STATUS) {
        return None;
    }
    let code = match http_status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    };
    Some(Status::new(code, format!("the service answered with HTTP {http_status}")))
}

/// Takes out what belongs to one connection, and a length that no longer holds.
fn clean(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
}

/// What must be done with a service's messages; nothing, if the client reads them as they are.
fn outbound_remake(
    call: Call<'_>,
    method: &Method,
    headers: &HeaderMap,
    accepted: Codings,
) -> Result<(Coding, Option<Remake>), Fault> {
    let read = Coding::of(headers, &GRPC_ENCODING)?;
    let translation = match call.codec {
        Codec::Proto if accepted.contains(read) => return Ok((read, None)),
        Codec::Proto => Translation::None,
        Codec::Json => Translation::ToJson(method.output.clone()),
    };
    let write = accepted.best();
    Ok((write, Some(Remake { read, bytes_max: REPLY_BYTES_MAX, translation, write })))
}

/// An answer in frames.
fn framed(
    call: Call<'_>,
    method: &Method,
    response: Response<tonic::body::Body>,
    accepted: Codings,
    ends: Ends,
    outcome: &Outcome,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.version = Version::default();
    head.status = StatusCode::OK;
    head.headers.insert(header::CONTENT_TYPE, call.content_type());
    if let Some(status) = Status::from_header_map(&head.headers) {
        // Trailers only. An empty frame of trailers beside a status in the headers would confuse clients.
        outcome.tell(status.code());
        if call.protocol != Protocol::ConnectStream {
            return Response::from_parts(head, Body::Empty);
        }
        let end = connect::end_of_stream(&status, &head.headers);
        let mut response = Response::new(Body::Whole(end));
        response.headers_mut().insert(header::CONTENT_TYPE, call.content_type());
        return response;
    }
    let (coding, remake) = match outbound_remake(call, method, &head.headers, accepted) {
        Ok(remake) => remake,
        Err(fault) => {
            outcome.tell(fault.status.code());
            return refuse(call, fault, false);
        }
    };
    head.headers.remove(GRPC_ENCODING);
    head.headers.remove(GRPC_ACCEPT_ENCODING);
    if coding != Coding::Identity {
        head.headers.insert(call.coding_header(), coding.name());
    }
    if method.server_streams && call.protocol != Protocol::Grpc {
        // A proxy that collects a stream before it passes it on ends what streams are for.
        head.headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    let outbound = Outbound::new(body, call.answered, remake, ends, outcome.clone());
    Response::from_parts(head, Body::stream(outbound))
}

/// A failure of ours, in the call's protocol.
fn refuse(call: Call<'_>, fault: Fault, is_unknown_coding: bool) -> Response<Body> {
    match call.protocol {
        Protocol::ConnectUnary => unary::refuse(fault, is_unknown_coding),
        Protocol::ConnectStream => {
            let end = connect::end_of_stream(&fault.status, &HeaderMap::new());
            let mut response = Response::new(Body::Whole(end));
            response.headers_mut().insert(header::CONTENT_TYPE, call.content_type());
            response
        }
        Protocol::Grpc | Protocol::Web | Protocol::WebText => {
            let mut response: Response<Body> = fault.status.into_http();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, call.content_type());
            if is_unknown_coding {
                let known = HeaderValue::from_static(Codings::ALL_NAMES);
                headers.insert(GRPC_ACCEPT_ENCODING, known);
            }
            response
        }
    }
}
