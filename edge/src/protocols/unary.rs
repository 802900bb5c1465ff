//! Connect's unary answers: one message as the body, trailers as headers, and an error as JSON under its own HTTP status.

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use rpc::Error;
use tonic::Code;
use tonic::Status;

use crate::body::Body;
use crate::caching;
use crate::fault::Fault;
use crate::protocols::Backend;
use crate::protocols::GRPC_ENCODING;
use crate::protocols::REPLY_BYTES_MAX;
use crate::protocols::call::Call;
use crate::protocols::call::Codec;
use crate::protocols::coding::Coding;
use crate::protocols::coding::Codings;
use crate::protocols::coding::WORTH_BYTES_MIN;
use crate::protocols::connect;
use crate::protocols::frame;
use crate::protocols::frame::Frame;
use crate::protocols::frame::Frames;
use crate::protocols::frame::HEAD_BYTES;
use crate::protocols::method::Method;
use crate::protocols::outbound::Ends;
use crate::protocols::outbound::broken_off;
use crate::protocols::outbound::too_long;
use crate::protocols::outcome::Outcome;

/// Answers with what a service says, once it has said it all.
pub(super) async fn answer(
    call: Call<'_>,
    method: &Method,
    response: Response<tonic::body::Body>,
    accepted: Codings,
    mut ends: Ends,
    is_get: bool,
    outcome: &Outcome,
) -> Result<Response<Body>, Fault> {
    let Read { headers: said, trailers, status, messages } =
        read(response, &mut ends, too_long).await?;
    outcome.tell(status.code());
    if status.code() != Code::Ok {
        let mut response = refuse(status.into(), false);
        add_metadata(&said, &trailers, response.headers_mut());
        return Ok(response);
    }
    let frame = single(messages)?;
    let (body, coding) = message(call, method, frame, &said, accepted)?;
    let mut response = Response::new(Body::Whole(body.clone()));
    let headers = response.headers_mut();
    add_metadata(&said, &trailers, headers);
    headers.insert(header::CONTENT_TYPE, call.content_type());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if coding != Coding::Identity {
        headers.insert(header::CONTENT_ENCODING, coding.name());
    }
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_get && !headers.contains_key(header::CACHE_CONTROL) {
        // Who asked was let in by a header: nothing shared may keep the answer, unless the service or the method's proto says so.
        let control = method.cache_control.clone().unwrap_or(caching::NOBODY);
        headers.insert(header::CACHE_CONTROL, control);
    }
    Ok(response)
}

/// What a service said, once it has said it all.
struct Read {
    headers: HeaderMap,
    trailers: HeaderMap,
    status: Status,
    messages: Bytes,
}

async fn read(
    response: Response<tonic::body::Body>,
    ends: &mut Ends,
    too_long: fn(&str) -> Status,
) -> Result<Read, Status> {
    let (head, body) = response.into_parts();
    let read = {
        let ended = std::future::poll_fn(|cx| ends.poll(cx));
        tokio::select! {
            biased;
            status = ended => Err(status),
            read = whole(body, too_long) => read,
        }
    };
    let (messages, trailers) = read?;
    let status = Status::from_header_map(trailers.as_ref().unwrap_or(&head.headers));
    Ok(Read {
        headers: head.headers,
        trailers: trailers.unwrap_or_default(),
        status: status.unwrap_or_else(broken_off),
        messages,
    })
}

/// Calls a method that takes one message and answers with one; what comes back is that, and the answer's metadata.
pub(crate) async fn call_one<G: Backend>(
    backend: &G,
    method: &Method,
    metadata: HeaderMap,
    deadline: Deadline,
    message: &[u8],
) -> Result<(HeaderMap, Bytes), Fault> {
    let body = tonic::body::Body::new(Full::new(frame::encode(0, message)));
    let request = super::upstream_request(method, metadata, Some(deadline), body);
    let mut ends = Ends { timer: Some(super::timer(deadline)), ..Ends::default() };
    let response = super::called(backend, request, &mut ends).await?;
    match super::not_grpc(&response) {
        Some(status) => Err(status.into()),
        None => one(response, &mut ends).await,
    }
}

/// The one message of an answer, and its metadata, trailers included. Where it is too long that is no fault of a client's, to whom a
/// limit of gRPC's means nothing.
async fn one(
    response: Response<tonic::body::Body>,
    ends: &mut Ends,
) -> Result<(HeaderMap, Bytes), Fault> {
    let Read { mut headers, trailers, status, messages } =
        read(response, ends, |why| Error::internal(&why).into()).await?;
    if status.code() != Code::Ok {
        return Err(status.into());
    }
    let frame = single(messages)?;
    let message = coding(&frame, &headers)?.decompress(&frame.message, REPLY_BYTES_MAX)?;
    headers.extend(trailers);
    Ok((headers, message))
}

/// The coding that a message is in.
fn coding(frame: &Frame, headers: &HeaderMap) -> Result<Coding, Fault> {
    match frame.flags & frame::COMPRESSED {
        0 => Ok(Coding::Identity),
        _ => Coding::of(headers, &GRPC_ENCODING),
    }
}

/// All of an answer.
async fn whole(
    mut body: tonic::body::Body,
    too_long: fn(&str) -> Status,
) -> Result<(Bytes, Option<HeaderMap>), Status> {
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if first.is_empty() => first = data,
            Ok(data) => {
                if first.len() + more.len() + data.len() > REPLY_BYTES_MAX + HEAD_BYTES {
                    let why = "the answer is longer than it may be";
                    return Err(too_long(why));
                }
                more.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    if more.is_empty() {
        return Ok((first, trailers));
    }
    Ok(([first, more.freeze()].concat().into(), trailers))
}

/// The one message of an answer that is one.
fn single(messages: Bytes) -> Result<Frame, Fault> {
    let mut frames = Frames::default();
    frames.push(messages);
    let mut next = || frames.next(|_, _| Ok::<_, Fault>(()));
    match (next()?, next()?) {
        (Some(frame), None) if frames.is_empty() => Ok(frame),
        _ => {
            let what = "the service answered a unary call with no message, or with several";
            Err(Error::new(Code::Unimplemented, ErrorReason::PeerNotGrpc, what).into())
        }
    }
}

/// The body of an answer, and the coding that it is in.
fn message(
    call: Call<'_>,
    method: &Method,
    frame: Frame,
    headers: &HeaderMap,
    accepted: Codings,
) -> Result<(Bytes, Coding), Fault> {
    let read = coding(&frame, headers)?;
    if call.codec == Codec::Proto && read != Coding::Identity && accepted.contains(read) {
        return Ok((frame.message, read));
    }
    let message = read.decompress(&frame.message, REPLY_BYTES_MAX)?;
    let message = match call.codec {
        Codec::Proto => message,
        Codec::Json => method
            .output
            .write_json(&message)
            .map_err(|error| Fault::from(Error::internal(&error)))?,
    };
    let best = accepted.best();
    if best == Coding::Identity || message.len() < WORTH_BYTES_MIN {
        return Ok((message, Coding::Identity));
    }
    Ok((best.compress(&message), best))
}

/// A service's metadata: as headers, trailers under a prefix.
fn add_metadata(headers: &HeaderMap, trailers: &HeaderMap, into: &mut HeaderMap) {
    for (name, value) in headers.iter().filter(|(name, _)| connect::is_metadata(name)) {
        into.append(name.clone(), value.clone());
    }
    for (name, value) in trailers.iter().filter(|(name, _)| connect::is_metadata(name)) {
        let prefixed = format!("trailer-{name}");
        let name = HeaderName::try_from(prefixed).expect("a name with letters before it is one");
        into.append(name, value.clone());
    }
}

/// An error as Connect says it, with the headers that its HTTP status asks for.
pub(super) fn refuse(fault: Fault, is_unknown_coding: bool) -> Response<Body> {
    let body = connect::error(&fault.status).to_string();
    let code = i32::from(fault.status.code());
    let mut response = Response::new(Body::Whole(body.into()));
    *response.status_mut() = transcode::http_status(code);
    let headers = response.headers_mut();
    fault.add_headers(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if is_unknown_coding {
        let known = HeaderValue::from_static(Codings::ALL_NAMES);
        headers.insert(header::ACCEPT_ENCODING, known);
    }
    response
}
