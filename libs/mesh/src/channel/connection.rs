//! One HTTP/2 connection to an instance: opened, kept alive, its streams counted.
//!
//! HTTP/2 libraries queue without bound when a connection's streams are used up, so a stream is reserved here before it is
//! asked for. Nothing is sent before the peer has proved who it is.

use super::waiting::Waiting;
use crate::identity::Identity;
use crate::identity::PeerIdentity;
use crate::identity::ServiceName;
use crate::instance_probe;
use anyhow::Context as _;
use anyhow::ensure;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Ping;
use h2::client::ResponseFuture;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a TCP connection may take to open.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the peer may take to prove who it is and to answer a first ping.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often a connection is probed, and how long the answer may take.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WAIT_MAX: Duration = Duration::from_secs(3);
/// How much a peer may send before it is read: per stream, and in all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The largest header block that is accepted.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How many streams are assumed until the peer says.
const STREAMS_ASSUMED: usize = 100;
/// How many streams are used at most, whatever the peer allows.
const STREAMS_MAX: usize = 10_000;

/// An open connection.
pub(super) struct Connection {
    send: SendRequest<Bytes>,
    state: Arc<State>,
    /// Whom to tell that a stream is free again.
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct State {
    /// Streams reserved or open.
    open: AtomicUsize,
    /// How many the peer allows.
    streams_max: AtomicUsize,
    /// Nothing more is to be sent: closed, or the peer said GOAWAY.
    retired: AtomicBool,
}

/// What keeps a connection going; it is closed when this ends or is dropped.
pub(super) type Driver = BoxFuture<'static, ()>;

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `address` as `identity`, and makes sure that `service` answers there.
    pub(super) async fn open(
        address: &str,
        service: &ServiceName,
        identity: &Identity,
        waiting: &Arc<Waiting>,
    ) -> anyhow::Result<(Self, Driver)> {
        let connecting = TcpStream::connect(address);
        let tcp = tokio::time::timeout(CONNECT_WAIT_MAX, connecting)
            .await
            .with_context(|| format!("{address} did not accept within {CONNECT_WAIT_MAX:?}"))?
            .with_context(|| format!("connecting to {address}"))?;
        tcp.set_nodelay(true)?;
        let handshake = handshake(tcp, service, identity, waiting);
        tokio::time::timeout(HANDSHAKE_WAIT_MAX, handshake)
            .await
            .with_context(|| format!("{address} did not answer within {HANDSHAKE_WAIT_MAX:?}"))?
            .with_context(|| format!("{address} is not usable as `{service}`"))
    }

    /// Reserves a stream; none if all are in use or the connection is retired.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Stream> {
        let state = &self.state;
        if state.retired.load(Ordering::Relaxed) {
            return None;
        }
        if state.open.fetch_add(1, Ordering::Relaxed) >= state.streams_max.load(Ordering::Relaxed) {
            state.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Stream { connection: Arc::clone(self) })
    }

    /// How many streams are in use.
    pub(super) fn open_streams(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }

    /// Whether anything may still be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.state.retired.load(Ordering::Relaxed)
    }

    /// Sends nothing more on this connection.
    pub(super) fn retire(&self) {
        self.state.retired.store(true, Ordering::Relaxed);
    }

    /// Asks which instance answers.
    pub(super) async fn instance(self: &Arc<Self>) -> anyhow::Result<String> {
        let stream = self.reserve().context("the connection has no free stream")?;
        let (response, _) = stream.send(instance_probe::request()?, true)?;
        instance_probe::instance(&response.await?)
    }
}

/// A reserved stream; given back when dropped, which must not be before the response has ended.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Arc<Connection>,
}

impl Stream {
    /// Sends a request's head. An error means that nothing of it was sent.
    pub(super) fn send(
        &self,
        request: http::Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        // A clone has no stream pending, so it need not be asked whether it is ready.
        let sent = self.connection.send.clone().send_request(request, ends);
        if sent.is_err() {
            self.connection.retire();
        }
        sent
    }

    pub(super) fn retire(&self) {
        self.connection.retire();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.state.open.fetch_sub(1, Ordering::Relaxed);
        self.connection.waiting.wake_all();
    }
}

async fn handshake(
    tcp: TcpStream,
    service: &ServiceName,
    identity: &Identity,
    waiting: &Arc<Waiting>,
) -> anyhow::Result<(Connection, Driver)> {
    match identity.client() {
        None => start(tcp, std::future::pending(), waiting).await,
        Some(client) => {
            let name = ServerName::try_from(service.dns_name())?;
            let tls = TlsConnector::from(client).connect(name.clone(), tcp).await?;
            let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let chain: Vec<_> = shown.iter().map(|der| der.clone().into_owned()).collect();
            let certificate = chain.first().context("it has no certificate")?;
            let found = PeerIdentity::of_certificate(certificate)?;
            ensure!(found.service == *service, "its certificate names `{found}`");
            let identity = identity.clone();
            let outlived = async move { identity.callee_outlived(chain, name).await };
            start(tls, outlived, waiting).await
        }
    }
}

/// Nothing new is sent after `outlived`: what the peer has proved holds no longer.
async fn start<T>(
    io: T,
    outlived: impl Future<Output = ()> + Send + 'static,
    waiting: &Arc<Waiting>,
) -> anyhow::Result<(Connection, Driver)>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (send, mut connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_ASSUMED)
        .max_header_list_size(HEADER_BYTES_MAX)
        .enable_push(false)
        .handshake::<_, Bytes>(io)
        .await?;
    let mut pings = connection.ping_pong().expect("nobody took it before");
    // The pong comes after the peer's settings, and shows that more than its kernel accepts.
    tokio::select! {
        ended = &mut connection => {
            ended?;
            anyhow::bail!("it closed the connection");
        }
        pong = pings.ping(Ping::opaque()) => {
            pong?;
        }
    }

    let state = Arc::new(State {
        open: AtomicUsize::new(0),
        streams_max: AtomicUsize::new(connection.max_concurrent_send_streams().min(STREAMS_MAX)),
        retired: AtomicBool::new(false),
    });
    let driven = Arc::clone(&state);
    let driver = async move {
        let streams = Arc::clone(&driven);
        let connected = std::future::poll_fn(|context| {
            let poll = Pin::new(&mut connection).poll(context);
            let streams_max = connection.max_concurrent_send_streams().min(STREAMS_MAX);
            streams.streams_max.store(streams_max, Ordering::Relaxed);
            poll
        });
        tokio::select! {
            ended = pin!(connected) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
            }
            () = keep_alive(&mut pings) => tracing::debug!("a connection is silent; closing it"),
            () = retire_after(outlived, &driven) => {}
        }
        driven.retired.store(true, Ordering::Relaxed);
    };
    Ok((Connection { send, state, waiting: Arc::clone(waiting) }, Box::pin(driver)))
}

/// Retires the connection after `outlived`; what is in flight goes on.
async fn retire_after(outlived: impl Future<Output = ()>, state: &State) {
    outlived.await;
    state.retired.store(true, Ordering::Relaxed);
    std::future::pending().await
}

/// Returns when the peer has stopped to answer.
async fn keep_alive(pings: &mut h2::PingPong) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let pong = tokio::time::timeout(PING_WAIT_MAX, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}
