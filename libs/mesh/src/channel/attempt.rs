//! One attempt: a request sent on a reserved stream, up to the first sign of how it went.

use super::body::Body;
use super::endpoint::Endpoint;
use super::flight::Flight;
use super::flight::code_of;
use super::payload::Payload;
use super::payload::Sending;
use super::payload::pump;
use crate::methods::Messages;
use crate::methods::Method;
use h2::Reason;
use h2::client::ResponseFuture;
use http::HeaderMap;
use http::Uri;
use http::request::Parts;
use http::uri::Scheme;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use std::future::poll_fn;
use std::time::Duration;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::Status;

/// By which a server says when to try again, in milliseconds; negative: not at all.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How an attempt went.
pub(super) enum Outcome {
    /// The response has begun. It may still fail, but it can't be taken back.
    Begun(http::Response<Body>),
    /// The server answered that it failed, before any message; the answer, should there be no better one.
    Failed { code: Code, pushback: Pushback, response: http::Response<Body> },
    /// It was provably not processed.
    Unprocessed(Status),
    /// The connection was lost, or the stream reset, and nobody knows how far the server came.
    Lost(Status),
}

/// Whether a server wants to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushback {
    None,
    After(Duration),
    Never,
}

/// Sends a request on a flight's stream.
pub(super) async fn attempt(
    mut flight: Flight,
    method: &'static Method,
    parts: &Parts,
    payload: &mut Payload,
    deadline: Option<Deadline>,
) -> Outcome {
    let request = match head(flight.endpoint(), parts, deadline) {
        Ok(request) => request,
        Err(status) => return Outcome::Lost(status),
    };
    let sending = payload.take().expect("a stream that was sent is not tried again");
    let (response, mut stream) = match flight.stream().send(request, false) {
        Ok(sent) => sent,
        Err(error) => {
            payload.put_back(sending);
            flight.finish(Code::Unavailable);
            return Outcome::Unprocessed(status_of(&error, flight.endpoint()));
        }
    };
    match sending {
        Sending::Whole(bytes) => {
            // An error means that the stream is closed already; the response says why.
            stream.send_data(bytes, true).ok();
        }
        Sending::Stream(first, rest) => {
            #[expect(clippy::disallowed_methods, reason = "the flight owns the task and ends it")]
            let task = tokio::spawn(pump(stream, first, rest));
            flight.pump = Some(AbortOnDropHandle::new(task));
        }
    }
    answer(flight, method, response).await
}

/// The request's head for one endpoint, with the time that is left.
fn head(
    endpoint: &Endpoint,
    parts: &Parts,
    deadline: Option<Deadline>,
) -> Result<http::Request<()>, Status> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(endpoint.authority.clone());
    uri.path_and_query = parts.uri.path_and_query().cloned();
    let mut request = http::Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from_parts(uri)
        .map_err(|_| Status::invalid_argument("the call's path is malformed"))?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = parts.headers.clone();
    if let Some(deadline) = deadline {
        let left = deadline.header(Instant::now());
        let left = left.try_into().expect("digits and a letter are a header's value");
        request.headers_mut().insert(Deadline::HEADER, left);
    }
    Ok(request)
}

/// Awaits the response's head and, of a unary one, its first frame: a status in the trailers says as much as one in the
/// head.
async fn answer(mut flight: Flight, method: &Method, response: ResponseFuture) -> Outcome {
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return broken(flight, &error),
    };
    flight.answered();
    let (head, mut stream) = response.into_parts();
    if let Some(code) = code_of(&head.headers) {
        let (code, pushback) = (code, pushback(&head.headers));
        if let Pushback::After(wait) = pushback {
            flight.pushed_back(wait);
        }
        flight.finish(code);
        let response = http::Response::from_parts(head, Body::empty());
        return failed_or_begun(code, pushback, response);
    }
    if !head.status.is_success() {
        // Not gRPC at all: a proxy, or a server that gave up early.
        let code = code_of_http(head.status);
        if head.status.is_server_error() {
            flight.finish_broken(code);
        } else {
            flight.finish(code);
        }
        let response = Status::new(code, format!("the peer answers {}", head.status)).into_http();
        return failed_or_begun(code, Pushback::None, response);
    }
    if method.responses == Messages::Stream {
        let body = Body::new(flight, stream);
        return Outcome::Begun(http::Response::from_parts(head, body));
    }
    match poll_fn(|context| stream.poll_data(context)).await {
        Some(Ok(data)) => {
            // An error means that the stream is closed, which its reader will see.
            stream.flow_control().release_capacity(data.len()).ok();
            let body = Body::new(flight, stream).with_first(data);
            Outcome::Begun(http::Response::from_parts(head, body))
        }
        Some(Err(error)) => broken(flight, &error),
        None => match poll_fn(|context| stream.poll_trailers(context)).await {
            Ok(trailers) => {
                let trailers = trailers.unwrap_or_default();
                let code = code_of(&trailers).unwrap_or(Code::Unknown);
                let pushback = pushback(&trailers);
                flight.finish(code);
                let response = http::Response::from_parts(head, Body::trailers(trailers));
                failed_or_begun(code, pushback, response)
            }
            Err(error) => broken(flight, &error),
        },
    }
}

fn failed_or_begun(code: Code, pushback: Pushback, response: http::Response<Body>) -> Outcome {
    if code == Code::Ok {
        return Outcome::Begun(response);
    }
    Outcome::Failed { code, pushback, response }
}

fn broken(mut flight: Flight, error: &h2::Error) -> Outcome {
    let status = status_of(error, flight.endpoint());
    flight.finish(status.code());
    if is_unprocessed(error) {
        flight.stream().retire();
        return Outcome::Unprocessed(status);
    }
    Outcome::Lost(status)
}

/// Whether the peer said that it has not looked at the stream: it refused it, or said GOAWAY with a lower last id, which
/// the library passes on only to the streams above.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let above_last_id = error.is_go_away() && error.is_remote();
    refused || above_last_id
}

/// The status of a call whose stream broke (gRPC over HTTP/2, "Errors").
pub(super) fn status_of(error: &h2::Error, endpoint: &Endpoint) -> Status {
    let instance = &endpoint.instance;
    let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
    match reset {
        Some(Reason::CANCEL) => Status::cancelled(format!("`{instance}` cancelled the call")),
        Some(Reason::ENHANCE_YOUR_CALM) => {
            let wait = Duration::from_secs(1);
            rpc::Error::overloaded(format!("`{instance}` is overloaded"), wait).into()
        }
        Some(Reason::REFUSED_STREAM) | None => rpc::Error::unavailable(
            ErrorReason::NoEndpoint,
            format!("the connection to `{instance}` was lost"),
        )
        .into(),
        Some(reason) => rpc::Error::internal(&format_args!(
            "`{instance}` reset a call's stream: {}",
            reason.description()
        ))
        .into(),
    }
}

/// gRPC's mapping of HTTP statuses.
fn code_of_http(status: http::StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn pushback(headers: &HeaderMap) -> Pushback {
    let Some(value) = headers.get(PUSHBACK) else { return Pushback::None };
    // What is malformed means "never", as gRPC has it (A6).
    let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_say_when_to_try_again() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(PUSHBACK, value.parse().unwrap());
            pushback(&headers)
        };
        assert_eq!(pushback(&HeaderMap::new()), Pushback::None);
        assert_eq!(of("250"), Pushback::After(Duration::from_millis(250)));
        assert_eq!(of("-1"), Pushback::Never);
        assert_eq!(of("soon"), Pushback::Never);
    }
}
