//! Clients that send a body piece by piece.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::stream::BoxStream;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clients::Answer;
use super::clients::PATIENCE;

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A request whose body is sent as a test goes on.
pub(super) struct Sending {
    /// Absent: the body has ended.
    pieces: Option<mpsc::Sender<Bytes>>,
    answering: BoxFuture<'static, hyper::Result<Response<Incoming>>>,
    /// Once it is there.
    head: Option<Response<Incoming>>,
    /// Drives the connection, which is gone when this is.
    _driver: JoinSet<()>,
}

impl Sending {
    /// On a connection of its own.
    pub(super) async fn begin(
        address: SocketAddr,
        is_http2: bool,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let (pieces, receiver) = mpsc::channel::<Bytes>(1);
        let chunks = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (Ok(Frame::data(piece)), receiver))
        });
        let body: Pieces = StreamBody::new(chunks.boxed());
        let uri = if is_http2 { format!("http://{address}{path}") } else { path.to_owned() };
        let mut request = Request::builder().method(method).uri(uri);
        if !is_http2 {
            request = request.header("host", "l.example");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let io = TokioIo::new(TcpStream::connect(address).await.expect("it listens"));
        let mut driver = JoinSet::new();
        let answering = if is_http2 {
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
            driver.spawn(async move { drop(connection.await) });
            async move { sender.send_request(request).await }.boxed()
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            driver.spawn(async move { drop(connection.await) });
            async move { sender.send_request(request).await }.boxed()
        };
        let pieces = Some(pieces);
        let mut sending = Self { pieces, answering, head: None, _driver: driver };
        // The request is on its way with the first poll.
        assert!(!sending.is_answered());
        sending
    }

    /// Whether the head of the answer is there.
    pub(super) fn is_answered(&mut self) -> bool {
        if self.head.is_none() {
            let answered = (&mut self.answering).now_or_never();
            self.head = answered.map(|answered| answered.expect("an answer"));
        }
        self.head.is_some()
    }

    /// Sends on, for as long as anybody takes it: whether it was taken.
    pub(super) async fn piece(&mut self, piece: impl Into<Bytes>) -> bool {
        let pieces = self.pieces.as_ref().expect("it has not ended");
        let sent = tokio::time::timeout(PATIENCE, pieces.send(piece.into()));
        sent.await.expect("in time").is_ok()
    }

    pub(super) fn end(&mut self) {
        self.pieces = None;
    }

    /// The head of the answer; the body may go on, both ways.
    pub(super) async fn head(&mut self) -> Response<Incoming> {
        if let Some(head) = self.head.take() {
            return head;
        }
        let answered = tokio::time::timeout(PATIENCE, &mut self.answering).await;
        answered.expect("in time").expect("an answer")
    }

    /// The whole answer.
    pub(super) async fn answer(&mut self) -> Answer {
        let (head, body) = self.head().await.into_parts();
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
