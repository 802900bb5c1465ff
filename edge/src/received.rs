//! The body of a request as it was received: what broke off never looks like what ended.
//!
//! hyper takes a stream of HTTP/2 that was reset with NO_ERROR for one that has ended (as a connection's streams are when its client
//! has gone and answers no ping, and as some proxies reset them). An end is one only if the client said so, by END_STREAM.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Version;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use crate::body::BoxError;

/// A body that ends only where its client ended it.
#[derive(Debug)]
pub(crate) struct Received<B> {
    body: B,
    version: Version,
}

impl<B: Body> Received<B> {
    /// Of a request in this version of HTTP.
    pub(crate) fn new(body: B, version: Version) -> Self {
        Self { body, version }
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) if self.version == Version::HTTP_2 && !self.body.is_end_stream() => {
                Poll::Ready(Some(Err("the client's stream was reset before its end".into())))
            }
            polled => polled.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
