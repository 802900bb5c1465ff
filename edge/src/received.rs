//! The body of a request as it was received: what broke off never looks like what ended.
//!
//! hyper takes a stream of HTTP/2 that was reset with NO_ERROR for one that has ended (as a connection's streams are when its client
//! has gone and answers no ping, and as some proxies reset them). An end is one only if the client said so, by END_STREAM.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.version == Version::HTTP_2 && !self.body.is_end_stream() {
            let why = "the client's stream was reset before its end";
            return Poll::Ready(Some(Err(why.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use http_body_util::BodyExt as _;

    /// As hyper's is after RST_STREAM with NO_ERROR: nothing comes, and no end was said.
    struct BrokenOff;

    impl Body for BrokenOff {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(None)
        }
    }

    #[tokio::test]
    async fn only_what_its_client_ended_has_ended() {
        assert!(Received::new(BrokenOff, Version::HTTP_2).collect().await.is_err());
        // Over HTTP/1.1 a body ends by its length, which hyper watches over.
        assert!(Received::new(BrokenOff, Version::HTTP_11).collect().await.is_ok());
        let whole = http_body_util::Full::new(Bytes::from_static(b"all"));
        let read = Received::new(whole, Version::HTTP_2).collect().await.expect("it ended");
        assert_eq!(read.to_bytes(), "all");
    }
}
