//! The body of a request on its way in, read from its HTTP/2 stream as the handler takes it.
//!
//! What must stay true: a request that its caller takes back never looks like one that ended.

use crate::http2;
use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use proto::common::v1::ErrorReason;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tonic::Code;
use tonic::Status;

#[derive(Debug)]
pub(super) struct RequestBody(pub(super) RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = http2::poll_frame(&mut self.get_mut().0, context);
        frame.map(|frame| frame.map(|frame| frame.map_err(status_of)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// tonic takes CANCELLED for the end of a stream: its handler would do with a half what was asked of the whole.
fn status_of(error: h2::Error) -> Status {
    if error.reason() == Some(Reason::CANCEL) {
        let message = "the caller took the call back";
        return rpc::Error::new(Code::Aborted, ErrorReason::Cancelled, message).into();
    }
    Status::from_error(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_taken_back_is_not_one_that_tonic_takes_for_ended() {
        for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
            assert_ne!(status_of(reason.into()).code(), Code::Cancelled, "{reason:?}");
        }
    }
}
