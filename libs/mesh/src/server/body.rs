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
use tokio::time::Sleep;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;

#[derive(Default)]
pub(super) struct ServerBody {
    body: Body,
    /// Until the end was counted.
    record: Option<Record>,
    deadline: Option<Deadline>,
    /// Only if the handler makes the peer wait.
    timer: Option<Pin<Box<Sleep>>>,
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
        let mut body = Self { body, record: Some(record), deadline, timer: None };
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
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.0.into())));
        timer.as_mut().poll(context)
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

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}
