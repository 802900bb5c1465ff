//! The body of a response, read from its HTTP/2 stream as the caller takes it.
//!
//! It holds the call's place on its endpoint until it has ended or is dropped, and observes how it ended.

use super::Owner;
use super::attempt::status_of;
use super::flight::Flight;
use super::flight::code_of;
use super::idle::Idle;
use super::record::Record;
use crate::http2;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;
use http_body::SizeHint;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;
use tokio::task::coop::Unconstrained;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;
use tonic::Code;
use tonic::Status;

/// The body of a response.
#[derive(Default)]
pub struct Body {
    /// Read before the body was handed out.
    first: Option<Bytes>,
    source: Source,
    record: Option<Record>,
    deadline: Option<Instant>,
    /// What keeps the connection going, until the end.
    owner: Option<Arc<Owner>>,
    /// Only if the response makes its reader wait.
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
    /// Only if the stream may not be silent for long.
    idle: Option<Silence>,
}

/// A watch over a silent stream, and the wait for its end.
struct Silence {
    idle: Idle,
    passed: BoxFuture<'static, ()>,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    Trailers(HeaderMap),
    Stream(Box<(Flight, RecvStream)>),
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = matches!(self.source, Source::Empty);
        formatter.debug_struct("Body").field("ended", &ended).finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn new(flight: Flight, stream: RecvStream) -> Self {
        Self { source: Source::Stream(Box::new((flight, stream))), ..Self::default() }
    }

    pub(super) fn with_first(self, first: Bytes) -> Self {
        Self { first: Some(first), ..self }
    }

    /// Ends the body if nothing is said in either direction for too long.
    pub(super) fn silent_for(self, idle: Option<Idle>) -> Self {
        let silence = |idle: Idle| Silence { passed: Box::pin(idle.clone().passed()), idle };
        Self { idle: idle.map(silence), ..self }
    }

    pub(super) fn empty() -> Self {
        Self::default()
    }

    pub(super) fn trailers(trailers: HeaderMap) -> Self {
        Self { source: Source::Trailers(trailers), ..Self::default() }
    }

    /// How the call ended, if that is all that the body says.
    pub(super) fn code(&self) -> Option<Code> {
        match &self.source {
            Source::Trailers(trailers) => code_of(trailers),
            Source::Empty | Source::Stream(_) => None,
        }
    }

    /// Ends the body with DEADLINE_EXCEEDED at `deadline`, and has `record` told how it ended.
    pub(super) fn observed(self, record: Record, deadline: Option<Instant>) -> Self {
        Self { record: Some(record), deadline, ..self }
    }

    pub(super) fn owned_by(self, owner: Arc<Owner>) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Lets go of the endpoint and says how the call ended.
    fn end(&mut self, code: Code) {
        let now = Instant::now();
        if let Source::Stream(stream) = &mut self.source {
            stream.0.finish_at(code, now);
        }
        self.source = Source::Empty;
        self.owner = None;
        if let Some(record) = self.record.take() {
            record.finish_at(code, now);
        }
    }

    /// Ends the body if it has waited for too long.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.poll_deadline(context).is_ready() {
            return Poll::Ready(rpc::Error::deadline_exceeded().into());
        }
        let Some(silence) = &mut self.idle else { return Poll::Pending };
        ready!(silence.passed.as_mut().poll(context));
        Poll::Ready(Idle::status(silence.idle.timeout()))
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| {
            Box::pin(unconstrained(tokio::time::sleep_until(deadline.into())))
        });
        timer.as_mut().poll(context)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = self.get_mut();
        if let Some(first) = body.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let polled = match &mut body.source {
            Source::Empty => return Poll::Ready(None),
            Source::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                body.end(code_of(&trailers).unwrap_or(Code::Unknown));
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            Source::Stream(stream) => http2::poll_frame(&mut stream.1, context),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(silence) = &body.idle {
                    silence.idle.touch();
                }
                if let Some(trailers) = frame.trailers_ref() {
                    body.end(code_of(trailers).unwrap_or(Code::Unknown));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let status = match &body.source {
                    Source::Stream(stream) => {
                        let method = body.record.as_ref().map(|record| record.method);
                        status_of(&error, stream.0.endpoint(), method)
                    }
                    Source::Empty | Source::Trailers(_) => Status::internal("it has ended"),
                };
                body.end(status.code());
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => {
                body.end(Code::Unknown);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let status = ready!(body.poll_waiting(context));
                body.end(status.code());
                Poll::Ready(Some(Err(status)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && matches!(self.source, Source::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
