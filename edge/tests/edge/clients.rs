//! HTTP clients as plain as can be: what they send is what the test says, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long anything may take before a test gives up on it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(super) fn text_lossy(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("text")
    }

    /// Status and reason of a problem, checked to be a good one.
    pub(super) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["domain"], "linkmesh", "{problem}");
        (self.status, problem["reason"].as_str().expect("a reason").to_owned())
    }
}

/// A connection of one version.
pub(super) enum Connection {
    One(
        hyper::client::conn::http1::SendRequest<Full<Bytes>>,
        #[expect(dead_code, reason = "drives it")] JoinSet<()>,
    ),
    Two(
        hyper::client::conn::http2::SendRequest<Full<Bytes>>,
        #[expect(dead_code, reason = "drives it")] JoinSet<()>,
    ),
}

impl Connection {
    pub(super) async fn http1(address: SocketAddr) -> Self {
        Self::http1_over(TcpStream::connect(address).await.expect("it listens")).await
    }

    pub(super) async fn http1_over<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Self::One(sender, driver)
    }

    pub(super) async fn http2(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Self::Two(sender, driver)
    }

    pub(super) async fn head(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let answered = async {
            match self {
                Self::One(sender, _) => {
                    sender.ready().await.expect("it is open");
                    sender.send_request(request).await
                }
                Self::Two(sender, _) => {
                    sender.ready().await.expect("it is open");
                    sender.send_request(request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("in time").expect("an answer")
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.head(request).await;
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("in time");
        let body = body.expect("a whole body");
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        }
    }
}

/// A request with `host: l.example` and these headers, for a path or (HTTP/2) a whole URI.
pub(super) fn request(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(uri);
    if uri.starts_with('/') && !headers.iter().any(|(name, _)| *name == "host") {
        builder = builder.header("host", "l.example");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).expect("a request")
}

/// A message in gRPC's frame.
pub(super) fn frame(message: &impl prost::Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0], &length[..], &message].concat().into()
}

/// The messages in a body of gRPC frames.
pub(super) fn messages<M: prost::Message + Default>(mut body: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] == 0 {
            messages.push(M::decode(&rest[..length]).expect("a message"));
        }
        body = &rest[length..];
    }
    messages
}
