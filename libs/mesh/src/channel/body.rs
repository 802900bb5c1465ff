//! The body of a response.

use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tonic::Status;

/// The body of a response, as it comes in.
#[derive(Debug)]
pub struct Body {}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        todo!()
    }
}
