//! A service that answers byte by byte what a test tells it to, where the tested edge must make something of what no good service says.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use tower::ServiceExt as _;

use super::doubles::Doubles;

/// What is answered: frames of gRPC, and then an end.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) frames: Vec<Bytes>,
    pub(super) end: End,
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Trailers(HeaderMap),
    /// As if it were over, without a word.
    Silent,
    /// In the middle of it.
    Broken,
    /// Something else than gRPC, under this status of HTTP.
    Http(u16),
}

impl End {
    /// Trailers of these names and values, whatever the bytes of those are.
    pub(super) fn saying(pairs: &[(&'static str, &[u8])]) -> Self {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"))
        });
        Self::Trailers(pairs.collect())
    }
}

/// Before a double, as long as there is something to answer instead.
#[derive(Clone)]
pub(super) struct Raw<S> {
    inner: S,
    doubles: Doubles,
}

impl<S> Raw<S> {
    pub(super) fn before(inner: S, doubles: &Doubles) -> Self {
        Self { inner, doubles: doubles.clone() }
    }
}

impl<S: NamedService> NamedService for Raw<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Raw<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.doubles.state().raw.clone() {
            Some(answer) => {
                let response = answer.into_response(self.doubles.clone());
                Box::pin(std::future::ready(Ok(response)))
            }
            None => Box::pin(self.inner.clone().oneshot(request)),
        }
    }
}

impl Answer {
    fn into_response(self, doubles: Doubles) -> Response<Body> {
        if let End::Http(status) = self.end {
            let response = Response::builder().status(status).header("content-type", "text/html");
            return response.body(Body::empty()).expect("a status");
        }
        let frames = self.frames.into_iter().map(|frame| Ok(Frame::data(frame)));
        let end = match self.end {
            End::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            End::Silent | End::Http(_) => None,
            End::Broken => Some(Err(Status::data_loss("told to break off"))),
        };
        // The pieces are not one: what comes with the end is not to be lost with it.
        let pieces = stream::iter(frames.chain(end)).then(move |piece| {
            doubles.state().raw_pieces += 1;
            async {
                tokio::task::yield_now().await;
                piece
            }
        });
        let mut response = Response::new(Body::new(StreamBody::new(Box::pin(pieces))));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
        response
    }
}
