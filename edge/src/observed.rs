//! Counts an API call when its answer has ended, since gRPC says only there how it went.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body::SizeHint;
use service::HttpMetrics;
use tonic::Code;

use crate::body::Body;
use crate::body::BoxError;
use crate::grpc;

/// A call that is being answered.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) http: HttpMetrics,
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) began: Instant,
    pub(crate) is_grpc: bool,
}

impl Observation {
    /// Counts the call when the answer's body has ended or was given up.
    pub(crate) fn attach(self, response: Response<Body>) -> Response<Body> {
        let code = grpc::code_in(response.headers());
        let status = response.status().as_u16();
        let is_streamed = matches!(response.body(), Body::Stream(_));
        let guard = Guard { observation: self, status, code };
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
    code: Option<Code>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Observation { http, method, route, began, is_grpc } = &self.observation;
        let (status, name) = if *is_grpc {
            let code = self.code.unwrap_or_else(|| grpc::broken_off().code());
            (transcode::http_status(code.into()).as_u16(), code_name(code))
        } else {
            (self.status, "")
        };
        let took = began.elapsed();
        tracing::debug!(method, route, status, grpc_code = name, ?took, "answered");
        http.observe(method, route, status, name, took);
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
    guard: Guard,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            // gRPC-Web has its trailers in a last frame of data, whose flag tells it from messages.
            let code = match (frame.trailers_ref(), frame.data_ref()) {
                (Some(trailers), _) => grpc::code_in(trailers),
                (None, Some(data)) => web_code(data),
                (None, None) => None,
            };
            self.guard.code = code.or(self.guard.code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The status in a frame of gRPC-Web's trailers, in its binary form or as text.
fn web_code(data: &[u8]) -> Option<Code> {
    use base64::Engine as _;
    const TRAILERS_BYTES_MAX: usize = 16 * 1024;
    if data.len() > TRAILERS_BYTES_MAX {
        return None;
    }
    let decoded;
    let frame = match data {
        [0x80, ..] => data,
        // `g` is how base64 begins whose first byte is 0x80 to 0x83.
        [b'g', ..] => {
            decoded = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
            &decoded
        }
        _ => return None,
    };
    let trailers = std::str::from_utf8(frame.get(5..)?).ok()?;
    let status = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:"))?;
    Some(Code::from_bytes(status.trim().as_bytes()))
}
