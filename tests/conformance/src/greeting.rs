//! Two servers that greet whoever asks: the edge's listener, and hyper as it comes. What only the first does wrong in HTTP/2 is
//! the edge's.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bytes::Bytes;
use edge::Body;
use edge::Handler;
use edge::Listener;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::AGE_MAX;
use crate::CONNECTIONS_MAX;
use crate::DRAIN_MAX;

const GREETING: Bytes = Bytes::from_static(b"hello");

#[derive(Debug, Clone)]
struct Greeter;

impl Handler for Greeter {
    async fn answer(&self, _: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        // An upload that breaks off is the client's affair.
        drop(request.into_body().collect().await);
        Response::new(Body::Whole(GREETING))
    }
}

pub(crate) async fn edge(port: u16) -> anyhow::Result<()> {
    let listener = Listener {
        socket: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?,
        tls: None,
        handler: Greeter,
        connections_max: CONNECTIONS_MAX,
        age_max: AGE_MAX,
        drain_max: DRAIN_MAX,
        ready: watch::Sender::new(false),
        leaving: CancellationToken::new(),
    };
    listener.run(CancellationToken::new()).await
}

pub(crate) async fn hyper(port: u16) -> anyhow::Result<()> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = socket.accept().await?;
        let service = service_fn(async |request: Request<Incoming>| {
            drop(request.into_body().collect().await);
            Ok::<_, Infallible>(Response::new(Full::new(GREETING)))
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connections.spawn(async move {
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
