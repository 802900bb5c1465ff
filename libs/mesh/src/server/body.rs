//! The body of a response on its way out: ended when its deadline passes, counted when it ends.

use super::record::Record;
use super::tap::Direction;
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body::SizeHint;
use rpc::Deadline;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;
use tokio::task::coop::Unconstrained;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;

/// How many frames of a response pass until the time is looked at.
const FRAMES_UNTIMED_MAX: u32 = 16;

#[derive(Default)]
pub(super) struct ServerBody {
    body: Body,
    /// Until the end was counted.
    record: Option<Record>,
    deadline: Option<Deadline>,
    /// Since the time was last looked at.
    frames: u32,
    /// Only if the handler makes the peer wait.
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl ServerBody {
    pub(super) fn new(
        body: Body,
        head: &HeaderMap,
        deadline: Option<Deadline>,
        record: Record,
    ) -> Self {
        if let Some(tap) = &record.tap {
            tap.answered(head);
        }
        let mut body = Self { body, record: Some(record), deadline, frames: 0, timer: None };
        if let Some(code) = code_of(head) {
            body.end(code, head);
        }
        body
    }

    /// The call ended; its status is in `head`, or in the trailers.
    fn end(&mut self, code: Code, head: &HeaderMap) {
        let Some(record) = self.record.take() else { return };
        let status = record.tap.is_some().then(|| Status::from_header_map(head)).flatten();
        record.finish(code, status.as_ref().map_or("", Status::message));
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.end(code_of(trailers).unwrap_or(Code::Unknown), trailers);
        } else if let Some(tap) = self.record.as_ref().and_then(|record| record.tap.as_ref())
            && let Some(data) = frame.data_ref()
        {
            tap.passed(Direction::Response, data);
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| {
            Box::pin(unconstrained(tokio::time::sleep_until(deadline.0.into())))
        });
        timer.as_mut().poll(context)
    }

    /// Ready when the deadline passes while the peer takes nothing of what it is sent; the call has ended then.
    pub(super) fn poll_unread(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_deadline(context));
        self.body = Body::empty();
        self.end(Code::DeadlineExceeded, &HeaderMap::new());
        Poll::Ready(())
    }

    /// Whether the deadline has passed of a stream that never makes its peer wait. Looks now and then.
    fn is_late(&mut self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        self.frames += 1;
        self.frames.is_multiple_of(FRAMES_UNTIMED_MAX) && deadline.left(Instant::now()).is_zero()
    }

    /// Ends the response where it is, with a status.
    fn cut(&mut self) -> Result<Frame<Bytes>, Status> {
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        Status::from(rpc::Error::deadline_exceeded()).add_header(&mut trailers)?;
        self.end(Code::DeadlineExceeded, &trailers);
        Ok(Frame::trailers(trailers))
    }
}

impl http_body::Body for ServerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_late() {
            return Poll::Ready(Some(this.cut()));
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => {
                ready!(this.poll_deadline(context));
                Poll::Ready(Some(this.cut()))
            }
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    this.passed(frame);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ServerBody {
    fn drop(&mut self) {
        // The peer went away before the end.
        self.end(Code::Cancelled, &HeaderMap::new());
    }
}

/// The code in a response's head or trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::methods::METHODS;
    use crate::server::Access;
    use crate::server::Server;
    use crate::server::ServerOptions;
    use http_body_util::BodyExt as _;
    use http_body_util::StreamBody;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_stream_that_never_waits_is_cut_at_its_deadline_too() {
        let identity = Identity::plaintext_for_bench("links").unwrap();
        let options =
            ServerOptions { instance: "links-1".to_owned(), identity, access: Access::new() };
        let shared = Server::new(options, &mut Default::default()).unwrap().shared;
        let peer = crate::identity::PeerIdentity::service("edge").unwrap();
        let record = Record {
            metrics: shared.metrics_of(&peer.service),
            shared: Arc::clone(&shared),
            method: METHODS.of_path("/a.B/C"),
            started: Instant::now(),
            tap: None,
            permit: None,
            finished: false,
        };
        let frames = futures_util::stream::repeat_with(|| {
            Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))
        });
        let deadline = Deadline(Instant::now() + Duration::from_millis(20));
        let body = Body::new(StreamBody::new(frames));
        let mut body = ServerBody::new(body, &HeaderMap::new(), Some(deadline), record);
        let last = loop {
            let frame = body.frame().await.unwrap().unwrap();
            if let Ok(trailers) = frame.into_trailers() {
                break trailers;
            }
        };
        assert_eq!(code_of(&last), Some(Code::DeadlineExceeded));
        assert!(deadline.left(Instant::now()).is_zero());
    }
}
