//! One attempt: a request sent on a reserved stream, up to the first sign of how it went.

use super::body::Body;
use super::endpoint::Endpoint;
use super::flight::Flight;
use super::flight::code_of;
use super::idle::Idle;
use super::payload::Sending;
use super::payload::pump;
use super::pick::Place;
use crate::identity::ServiceName;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::Safety;
use crate::policy::RoutePolicy;
use crate::within::within;
use h2::Reason;
use h2::client::ResponseFuture;
use http::HeaderMap;
use http::HeaderName;
use http::Uri;
use http::request::Parts;
use http::uri::Scheme;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::Status;
use tonic_types::StatusExt as _;

/// By which a server says when to try again, in milliseconds; negative: not at all.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// A name that is parsed once, not for each attempt.
const TIMEOUT: HeaderName = HeaderName::from_static(Deadline::HEADER);

/// How an attempt went.
pub(super) enum Outcome {
    /// The response has begun. It may still fail, but it can't be taken back.
    Begun(http::Response<Body>),
    /// The server answered that it failed, before any message; the answer, should there be no better one.
    Failed { code: Code, pushback: Pushback, response: http::Response<Body> },
    /// It was provably not processed; and what was not sent of what can be sent only once.
    Unprocessed { status: Status, unsent: Option<Sending> },
    /// The connection was lost, or the stream reset, and nobody knows how far the server came.
    Lost(Status),
    /// There was no answer within the time for one attempt.
    TimedOut(Status),
    /// It can't be sent at all.
    Refused(Status),
}

/// Whether a server wants to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushback {
    None,
    After(Duration),
    Never,
}

/// What all attempts of a call have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) method: &'static Method,
    pub(super) parts: &'a Parts,
    pub(super) policy: &'a RoutePolicy,
    pub(super) deadline: Option<Deadline>,
}

impl Attempt<'_> {
    /// Sends a request at `now` on the stream that was reserved on an endpoint.
    pub(super) async fn send(&self, place: Place, sending: Sending, now: Instant) -> Outcome {
        let (endpoint, stream) = place;
        let deadline = self.deadline.map(|deadline| deadline.0);
        let Some(try_timeout) = self.policy.retry.per_try_timeout else {
            let flight = Flight::begin(endpoint, stream, now, deadline);
            return pin!(self.exchange(flight, sending, now)).await;
        };
        let end = deadline.map_or(now + try_timeout, |deadline| deadline.min(now + try_timeout));
        let flight = Flight::begin(endpoint, stream, now, Some(end));
        // What times out is dropped, which resets its stream and has it count as slow.
        let exchange = Box::pin(within(Deadline(end), self.exchange(flight, sending, now)));
        exchange.await.unwrap_or_else(|| {
            let mut error = rpc::Error::deadline_exceeded();
            error.message = format!("no answer within {try_timeout:?}, the time for one attempt");
            Outcome::TimedOut(error.into())
        })
    }

    async fn exchange(&self, mut flight: Flight, sending: Sending, now: Instant) -> Outcome {
        let request = match head(flight.endpoint(), self.parts, self.deadline, now) {
            Ok(request) => request,
            Err(status) => return Outcome::Refused(status),
        };
        let (response, mut stream) = match flight.stream().send(request, false) {
            Ok(sent) => sent,
            Err(error) => {
                if let Some(name) = illegal_header(self.parts) {
                    let message = format!("the header `{name}` is not allowed in a gRPC call");
                    return Outcome::Refused(rpc::Error::malformed(message).into());
                }
                flight.stream().retire();
                let status = status_of(&error, flight.endpoint(), None);
                flight.finish(Code::Unavailable);
                return Outcome::Unprocessed { status, unsent: Some(sending) };
            }
        };
        let streams = [self.method.requests, self.method.responses].contains(&Messages::Stream);
        let idle = self.policy.idle_timeout.filter(|_| streams).map(Idle::new);
        match sending {
            Sending::Whole(bytes) => {
                // An error means that the stream is closed already; the response says why.
                stream.send_data(bytes, true).ok();
            }
            Sending::Stream(first, rest) => {
                let pumping = pump(stream, first, rest, idle.clone());
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the flight owns the task and ends it"
                )]
                let task = tokio::spawn(pumping);
                flight.pump = Some(AbortOnDropHandle::new(task));
            }
        }
        let Some(idle) = idle else { return pin!(self.answer(flight, response, None)).await };
        let answered = Box::pin(self.answer(flight, response, Some(idle.clone())));
        tokio::select! {
            outcome = answered => outcome,
            () = idle.clone().passed() => Outcome::TimedOut(Idle::status(idle.timeout())),
        }
    }

    /// Awaits the response's head and, of a unary one, its first frame: a status in the trailers says as much as one in the
    /// head.
    async fn answer(
        &self,
        mut flight: Flight,
        response: ResponseFuture,
        idle: Option<Idle>,
    ) -> Outcome {
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return broken(flight, &error, self.method).await,
        };
        flight.answered();
        flight.until(self.deadline.map(|deadline| deadline.0));
        let (head, mut stream) = response.into_parts();
        if let Some(code) = code_of(&head.headers) {
            return ended(flight, code, head, None);
        }
        if !head.status.is_success() {
            return not_grpc(flight, head.status);
        }
        if self.method.responses == Messages::Stream {
            flight.probe_passed();
            let body = Body::new(flight, stream).silent_for(idle);
            return Outcome::Begun(http::Response::from_parts(head, body));
        }
        match poll_fn(|context| stream.poll_data(context)).await {
            Some(Ok(data)) => {
                // An error means that the stream is closed, which its reader will see.
                stream.flow_control().release_capacity(data.len()).ok();
                let body = Body::new(flight, stream).with_first(data).silent_for(idle);
                Outcome::Begun(http::Response::from_parts(head, body))
            }
            Some(Err(error)) => broken(flight, &error, self.method).await,
            None => match poll_fn(|context| stream.poll_trailers(context)).await {
                Ok(trailers) => {
                    let trailers = trailers.unwrap_or_default();
                    let code = code_of(&trailers).unwrap_or(Code::Unknown);
                    ended(flight, code, head, Some(trailers))
                }
                Err(error) => broken(flight, &error, self.method).await,
            },
        }
    }
}

/// What HTTP/2 forbids (RFC 9113, 8.2.2): the library refuses to send it, which says nothing of the connection. Looked for only
/// once a call could not be sent.
fn illegal_header(parts: &Parts) -> Option<&'static str> {
    const ILLEGAL: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let te = parts.headers.get(http::header::TE);
    let illegal = ILLEGAL.into_iter().find(|name| parts.headers.contains_key(*name));
    illegal.or_else(|| te.filter(|te| *te != "trailers").map(|_| "te"))
}

/// The request's head for one endpoint, with the time that is left.
fn head(
    endpoint: &Endpoint,
    parts: &Parts,
    deadline: Option<Deadline>,
    now: Instant,
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
        let left = deadline.header(now);
        let left = left.try_into().expect("digits and a letter are a header's value");
        request.headers_mut().insert(TIMEOUT, left);
    }
    Ok(request)
}

/// The server said how it went before any message.
fn ended(
    mut flight: Flight,
    code: Code,
    head: http::response::Parts,
    trailers: Option<HeaderMap>,
) -> Outcome {
    let says = trailers.as_ref().unwrap_or(&head.headers);
    let pushback = if code == Code::Ok { Pushback::None } else { pushback(code, says) };
    if let Pushback::After(wait) = pushback {
        flight.pushed_back(wait);
    }
    flight.finish(code);
    let body = trailers.map_or_else(Body::empty, Body::trailers);
    let response = http::Response::from_parts(head, body);
    if code == Code::Ok {
        return Outcome::Begun(response);
    }
    Outcome::Failed { code, pushback, response }
}

/// What answered is a proxy, or a server that gave up early.
fn not_grpc(mut flight: Flight, status: http::StatusCode) -> Outcome {
    let code = code_of_http(status);
    if status.is_server_error() {
        flight.finish_broken(code);
    } else {
        flight.finish(code);
    }
    let service = &flight.endpoint().service;
    let message = format!("what answers as `{service}` does not speak gRPC: it says {status}");
    let status = Status::from(rpc::Error::new(code, ErrorReason::PeerNotGrpc, message));
    Outcome::Failed { code, pushback: Pushback::None, response: status.into_http() }
}

async fn broken(mut flight: Flight, error: &h2::Error, method: &Method) -> Outcome {
    let unprocessed = is_unprocessed(error);
    // Whether it was done is a question only for what may have been begun.
    let status = status_of(error, flight.endpoint(), (!unprocessed).then_some(method));
    flight.finish(status.code());
    if !unprocessed {
        return Outcome::Lost(status);
    }
    flight.stream().retire();
    // The stream is closed, which ends the task.
    let unsent = match flight.pump.take() {
        Some(pump) => pump.await.ok().flatten(),
        None => None,
    };
    Outcome::Unprocessed { status, unsent }
}

/// Whether the peer said that it has not looked at the stream: it refused it, or said GOAWAY with a lower last id, which
/// the library passes on only to the streams above.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let above_last_id = error.is_go_away() && error.is_remote();
    refused || above_last_id
}

/// The status of a call whose stream broke (gRPC over HTTP/2, "Errors"); of which method, if it may have been begun. Which instance
/// it was is nobody's business but the operator's, who finds it in the log.
pub(super) fn status_of(error: &h2::Error, endpoint: &Endpoint, begun: Option<&Method>) -> Status {
    let service = &endpoint.service;
    tracing::debug!(instance = endpoint.instance, %error, "a call's stream broke");
    let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
    let error = match reset {
        Some(Reason::CANCEL) => {
            let message = format!("an instance of `{service}` ended the call before it was done");
            rpc::Error::new(Code::Cancelled, ErrorReason::Cancelled, message)
        }
        Some(Reason::ENHANCE_YOUR_CALM) => {
            let message = format!("an instance of `{service}` is overloaded");
            rpc::Error::overloaded(message, Duration::from_secs(1))
        }
        Some(Reason::REFUSED_STREAM) | None => match begun {
            Some(method) if method.safety == Safety::Once => outcome_unknown(service),
            Some(_) | None => rpc::Error::unavailable(
                ErrorReason::NoEndpoint,
                format!("the connection to an instance of `{service}` was lost"),
            ),
        },
        Some(reason) => rpc::Error::internal(&format_args!(
            "`{}` reset a call's stream: {}",
            endpoint.instance,
            reason.description()
        )),
    };
    error.into()
}

/// The connection was lost under a call that must not be done twice. No retry is suggested.
fn outcome_unknown(service: &ServiceName) -> rpc::Error {
    let message = format!(
        "the connection to an instance of `{service}` was lost while the call was under way; the outcome is unknown: it may or may \
         not have been done"
    );
    rpc::Error::new(Code::Unavailable, ErrorReason::OutcomeUnknown, message)
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

/// What a server asks for that failed a call. One that sheds load says it in the status's details (`RetryInfo`) as well.
fn pushback(code: Code, headers: &HeaderMap) -> Pushback {
    let Some(value) = headers.get(PUSHBACK) else {
        return if code == Code::ResourceExhausted { retry_info(headers) } else { Pushback::None };
    };
    // What is malformed means "never", as gRPC has it (A6).
    let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis)))
}

fn retry_info(headers: &HeaderMap) -> Pushback {
    let wait = Status::from_header_map(headers)
        .and_then(|status| status.get_details_retry_info())
        .and_then(|info| info.retry_delay);
    wait.map_or(Pushback::None, Pushback::After)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_say_when_to_try_again() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(PUSHBACK, value.parse().unwrap());
            pushback(Code::Unavailable, &headers)
        };
        assert_eq!(pushback(Code::Unavailable, &HeaderMap::new()), Pushback::None);
        assert_eq!(of("250"), Pushback::After(Duration::from_millis(250)));
        assert_eq!(of("-1"), Pushback::Never);
        assert_eq!(of("soon"), Pushback::Never);
    }

    #[test]
    fn one_that_sheds_may_say_it_in_the_details() {
        let shed = Status::from(rpc::Error::overloaded("", Duration::from_secs(3)));
        let mut headers = HeaderMap::new();
        shed.add_header(&mut headers).unwrap();
        let wait = Pushback::After(Duration::from_secs(3));
        assert_eq!(pushback(Code::ResourceExhausted, &headers), wait);
        assert_eq!(pushback(Code::Unavailable, &headers), Pushback::None);
    }
}
