//! One HTTP/2 connection to an instance: opened, kept alive, its streams counted.
//!
//! HTTP/2 libraries queue without bound when a connection's streams are used up, so a stream is reserved here before it is
//! asked for. Nothing is sent before the peer has proved who it is. A peer that says GOAWAY ends no stream that it has taken: the
//! next request is refused by the library unsent, and the connection lives on until its last stream has ended.

use super::endpoint::Endpoint;
use super::flight::Probe;
use super::waiting::Waiting;
use crate::http2::PING_EVERY;
use crate::http2::keep_alive;
use crate::identity::Identity;
use crate::identity::PeerIdentity;
use crate::identity::ServiceName;
use crate::instance_probe;
use anyhow::Context as _;
use anyhow::ensure;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Ping;
use h2::Reason;
use h2::client::ResponseFuture;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a TCP connection may take to open.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the peer may take to prove who it is and to answer a first ping.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often the time between pings doubles at most for a peer that says that it has too many: up to 42 min. gRPC servers that are
/// none of ours may allow one in five minutes (A8).
const CALM_MAX: u32 = 8;
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
    pub(super) opened: Instant,
    /// Whom to tell that a stream is free again.
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct State {
    /// Streams reserved or open.
    open: AtomicUsize,
    /// How many the peer allows.
    streams_max: AtomicUsize,
    /// Nothing more is to be sent: too old, closed, or the peer said GOAWAY.
    retired: AtomicBool,
    /// It broke.
    lost: AtomicBool,
    /// One of the calls that it broke with was counted as a failure.
    blamed: AtomicBool,
    /// Whose it is.
    endpoint: Weak<Endpoint>,
}

/// Where a connection leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) address: &'a str,
    pub(super) service: &'a ServiceName,
    /// Whose connection it is to be, if anyone's.
    pub(super) endpoint: Option<&'a Arc<Endpoint>>,
}

/// What keeps a connection going; it is closed when this ends or is dropped.
pub(super) type Driver = BoxFuture<'static, ()>;

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects as `identity`, and makes sure that the peer's service answers there.
    pub(super) async fn open(
        peer: Peer<'_>,
        identity: &Identity,
        waiting: &Arc<Waiting>,
    ) -> anyhow::Result<(Arc<Self>, Driver)> {
        let Peer { address, service, .. } = peer;
        let connecting = TcpStream::connect(address);
        let tcp = tokio::time::timeout(CONNECT_WAIT_MAX, connecting)
            .await
            .with_context(|| format!("{address} did not accept within {CONNECT_WAIT_MAX:?}"))?
            .with_context(|| format!("connecting to {address}"))?;
        tcp.set_nodelay(true)?;
        let handshake = handshake(tcp, peer, identity, waiting);
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
        let streams_max = state.streams_max.load(Ordering::Relaxed);
        let one_more = |open: usize| (open < streams_max).then_some(open + 1);
        state.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Stream { connection: Arc::clone(self), probe: None })
    }

    /// How many streams are in use.
    pub(super) fn open_streams(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }

    /// Whether three quarters of its streams are in use: time to open another one.
    pub(super) fn is_crowded(&self) -> bool {
        self.open_streams() * 4 >= self.state.streams_max.load(Ordering::Relaxed) * 3
    }

    /// Whether anything may still be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.state.retired.load(Ordering::Relaxed)
    }

    /// Sends nothing more on this connection.
    pub(super) fn retire(&self) {
        self.state.retire();
    }

    /// A connection to nobody: its streams can be reserved, and nothing can be sent on them.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn to_nobody(endpoint: &Arc<Endpoint>, streams_max: usize) -> Arc<Self> {
        use futures_util::FutureExt as _;
        let (io, _peer) = tokio::io::duplex(1 << 10);
        let handshake = h2::client::Builder::new().handshake::<_, Bytes>(io).now_or_never();
        let (send, _) = handshake.expect("there is room for the preface").expect("and it is open");
        let state = Arc::new(State::new(streams_max, Some(endpoint)));
        Arc::new(Self { send, state, opened: Instant::now(), waiting: Arc::default() })
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
    /// Only if it was reserved for the one call of a probation.
    pub(super) probe: Option<Probe>,
}

impl State {
    fn new(streams_max: usize, endpoint: Option<&Arc<Endpoint>>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            streams_max: AtomicUsize::new(streams_max),
            retired: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            blamed: AtomicBool::new(false),
            endpoint: endpoint.map(Arc::downgrade).unwrap_or_default(),
        }
    }

    fn retire(&self) {
        if self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.wake();
        }
    }
}

impl Stream {
    /// Sends a request's head. An error means that nothing of it was sent: the connection is done for, unless the head itself is
    /// one that HTTP/2 forbids.
    pub(super) fn send(
        &self,
        request: http::Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        // A clone has no stream pending, so it need not be asked whether it is ready.
        self.connection.send.clone().send_request(request, ends)
    }

    pub(super) fn retire(&self) {
        self.connection.retire();
    }

    /// Whether a failure on it is one more: all calls fail when a connection breaks, which is one failure.
    pub(super) fn is_to_blame(&self) -> bool {
        let state = &self.connection.state;
        !state.lost.load(Ordering::Relaxed) || !state.blamed.swap(true, Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = &self.connection.state;
        let before = state.open.fetch_sub(1, Ordering::Relaxed);
        // Nobody waits for a connection that had a free stream already.
        if before >= state.streams_max.load(Ordering::Relaxed) {
            self.connection.waiting.wake_all();
        }
    }
}

async fn handshake(
    tcp: TcpStream,
    peer: Peer<'_>,
    identity: &Identity,
    waiting: &Arc<Waiting>,
) -> anyhow::Result<(Arc<Connection>, Driver)> {
    match identity.client() {
        None => start(tcp, std::future::pending(), peer.endpoint, waiting).await,
        Some(client) => {
            let name = ServerName::try_from(peer.service.dns_name())?;
            let tls = TlsConnector::from(client).connect(name.clone(), tcp).await?;
            let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let chain: Vec<_> = shown.iter().map(|der| der.clone().into_owned()).collect();
            let certificate = chain.first().context("it has no certificate")?;
            let found = PeerIdentity::of_certificate(certificate)?;
            ensure!(found.service == *peer.service, "its certificate names `{found}`");
            let identity = identity.clone();
            let outlived = async move { identity.callee_outlived(chain, name).await };
            start(tls, outlived, peer.endpoint, waiting).await
        }
    }
}

/// Nothing new is sent after `outlived`: what the peer has proved holds no longer.
async fn start<T>(
    io: T,
    outlived: impl Future<Output = ()> + Send + 'static,
    endpoint: Option<&Arc<Endpoint>>,
    waiting: &Arc<Waiting>,
) -> anyhow::Result<(Arc<Connection>, Driver)>
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

    let streams_max = connection.max_concurrent_send_streams().min(STREAMS_MAX);
    let state = Arc::new(State::new(streams_max, endpoint));
    let calm = endpoint.map_or(0, |endpoint| endpoint.calm.load(Ordering::Relaxed));
    let ping_every = PING_EVERY * (1 << calm.min(CALM_MAX));
    let driven = Arc::clone(&state);
    let driver = async move {
        let streams = Arc::clone(&driven);
        let connected = std::future::poll_fn(|context| {
            let poll = Pin::new(&mut connection).poll(context);
            let streams_max = connection.max_concurrent_send_streams().min(STREAMS_MAX);
            streams.streams_max.store(streams_max, Ordering::Relaxed);
            poll
        });
        let broke = tokio::select! {
            ended = pin!(connected) => ended.err(),
            () = keep_alive(&mut pings, ping_every) => {
                tracing::debug!("a connection is silent; closing it");
                driven.lost.store(true, Ordering::Relaxed);
                None
            }
            () = retire_after(outlived, &driven) => None,
        };
        if let Some(error) = broke {
            tracing::debug!(%error, "a connection broke");
            driven.lost.store(true, Ordering::Relaxed);
            let calm = error.is_go_away() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
            if let Some(endpoint) = driven.endpoint.upgrade().filter(|_| calm) {
                endpoint.calm.fetch_add(1, Ordering::Relaxed);
            }
        }
        driven.retire();
    };
    let connection =
        Connection { send, state, opened: Instant::now(), waiting: Arc::clone(waiting) };
    Ok((Arc::new(connection), Box::pin(driver)))
}

/// Retires the connection after `outlived`; what is in flight goes on.
async fn retire_after(outlived: impl Future<Output = ()>, state: &State) {
    outlived.await;
    state.retire();
    std::future::pending::<()>().await;
}
