//! Counts an API call when its answer has ended, since gRPC says only there how it went.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body::SizeHint;
use service::HttpMetrics;
use tonic::Code;

use crate::access::Access;
use crate::access::Entry;
use crate::access::Line;
use crate::body::Body;
use crate::body::BoxError;
use crate::protocols;
use crate::protocols::Outcome;

/// A call that is being answered.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) http: HttpMetrics,
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) began: Instant,
    /// For a call of gRPC, gRPC-Web or Connect; REST has its HTTP status.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) access: Access,
    /// Its line in the access log, if it has one.
    pub(crate) entry: Option<Entry>,
}

impl Observation {
    /// Counts the call when the answer's body has ended or was given up.
    pub(crate) fn attach(self, response: Response<Body>) -> Response<Body> {
        let status = response.status().as_u16();
        let is_streamed = matches!(response.body(), Body::Stream(_));
        let bytes = http_body::Body::size_hint(response.body()).exact();
        let bytes = bytes.filter(|_| !is_streamed).unwrap_or(0);
        let guard = Guard { observation: self, status, bytes };
        if !is_streamed {
            drop(guard);
            return response;
        }
        response.map(|inner| Body::stream(Observed { inner, guard }))
    }
}

struct Guard {
    observation: Observation,
    status: u16,
    /// Of the body, as far as it was sent.
    bytes: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Observation { http, method, route, began, outcome, access, entry } = &self.observation;
        let (status, name) = match outcome {
            Some(outcome) => {
                let code = outcome.code().unwrap_or_else(|| protocols::broken_off().code());
                (transcode::http_status(code.into()).as_u16(), code_name(code))
            }
            None => (self.status, ""),
        };
        let took = began.elapsed();
        tracing::debug!(method, route, status, grpc_code = name, ?took, "answered");
        http.observe(method, route, status, name, took);
        let (bytes, entry) = (self.bytes, entry.as_ref());
        access.call(&Line { method, route, status, grpc_code: name, took, bytes, entry });
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

struct Observed {
    inner: Body,
    /// Observes when the body is dropped.
    guard: Guard,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.guard.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
