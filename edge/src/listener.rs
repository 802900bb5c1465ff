//! The public port: HTTP/1.1 and HTTP/2, with TLS or without, bounded in connections, streams, heads and patience; and its drain.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::patience::Patient;
use crate::upstream::STREAM_MAX;

/// How long a new connection may take to its first whole request head. hyper times neither a silent socket nor half an
/// HTTP/2 preface.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long any further HTTP/1.1 head may take, which is also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection is given to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a client may take none of the bytes that wait for it. nginx's `send_timeout` is as long.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a call on HTTP/2 may take in all, with a client that answers pings and takes nothing: nothing else ends that.
const CALL_MAX: Duration = STREAM_MAX.saturating_add(WRITE_WAIT_MAX);
/// How long accepting pauses after it failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of an HTTP/1.1 head, which a connection's buffer holds.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Bytes of an HTTP/2 header list.
const HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;
/// Calls at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// Streams that a peer may reset before they were accepted, and that may fail, before the connection is ended: rapid reset.
const PENDING_RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 256;
/// Bytes that a slow reader makes the edge hold, for each stream.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// How often a silent HTTP/2 peer is pinged, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Of the age that connections get.
const AGE_SPREAD: Range<f64> = 0.9..1.1;

/// What answers the requests of a port. Cheap to clone.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers a request from a connection's other end.
    fn answer(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The public port, bound and not yet accepting.
pub struct Listener<H> {
    /// Where connections come in.
    pub socket: TcpListener,
    /// Absent: connections are not encrypted.
    pub tls: Option<TlsAcceptor>,
    /// What answers.
    pub handler: H,
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// How old a connection gets before it is asked to make room for another, a tenth more or less, so that those that came together
    /// don't leave together: a new edge gets its part of clients that stay, and none keeps a place for ever.
    pub age_max: Duration,
    /// How long what is in flight may take to finish at a stop.
    pub drain_max: Duration,
    /// Whether connections are accepted.
    pub ready: watch::Sender<bool>,
    /// Cancelled when the stop begins, for streams that would hold it.
    pub leaving: CancellationToken,
}

impl<H> fmt::Debug for Listener<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// What every connection of a listener shares.
#[derive(Clone)]
struct Connections<H> {
    builder: auto::Builder<Streams>,
    tls: Option<TlsAcceptor>,
    handler: H,
    age_max: Duration,
    stop: CancellationToken,
    give_up: CancellationToken,
}

impl<H: Handler> Listener<H> {
    /// Accepts until `stop`; then says GOAWAY, and gives what is in flight until `drain_max`.
    ///
    /// # Errors
    /// None: a connection that fails is its own affair.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let tracker = TaskTracker::new();
        let give_up = CancellationToken::new();
        let streams = Streams { tracker: tracker.clone(), give_up: give_up.clone() };
        let connections = Connections {
            builder: builder(streams),
            tls: self.tls,
            handler: self.handler,
            age_max: self.age_max,
            stop: stop.clone(),
            give_up,
        };
        let slots = Arc::new(Semaphore::new(self.connections_max));
        self.ready.send_replace(true);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("it is never closed");
                (slot, self.socket.accept().await)
            };
            let Some((slot, accepted)) = stop.run_until_cancelled(accepted).await else { break };
            match accepted {
                Ok((stream, peer)) => {
                    let connections = connections.clone();
                    tracker.spawn(async move {
                        connections.accept(stream, peer).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.ready.send_replace(false);
        drop(self.socket);
        self.leaving.cancel();
        tracker.close();
        if tokio::time::timeout(self.drain_max, tracker.wait()).await.is_err() {
            tracing::warn!(connections = tracker.len(), "calls in flight are cut off");
            connections.give_up.cancel();
            tracker.wait().await;
        }
        Ok(())
    }
}

impl<H: Handler> Connections<H> {
    async fn accept(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection ended before it began");
            return;
        }
        let stream = Patient::new(stream, WRITE_WAIT_MAX);
        let Some(tls) = self.tls.clone() else { return self.serve(stream, peer).await };
        let handshake = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, tls.accept(stream));
        match self.stop.clone().run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => Box::pin(self.serve(stream, peer)).await,
            Some(Ok(Err(error))) => tracing::debug!(error = %error, "a handshake failed"),
            Some(Err(_)) | None => tracing::debug!("a handshake was given up"),
        }
    }

    async fn serve<I>(self, stream: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let has_asked = Arc::new(AtomicBool::new(false));
        let service = {
            let (handler, has_asked) = (self.handler.clone(), Arc::clone(&has_asked));
            service_fn(move |request| {
                has_asked.store(true, Ordering::Relaxed);
                let handler = handler.clone();
                async move { Ok::<_, Infallible>(handler.answer(peer, request).await) }
            })
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let first_request = tokio::time::sleep(FIRST_REQUEST_TIMEOUT);
        let mut first_request = pin!(first_request);
        let mut is_timed = true;
        let age = tokio::time::sleep(self.age_max.mul_f64(rand::random_range(AGE_SPREAD)));
        let mut age = pin!(age);
        let mut is_old = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break Some(ended),
                () = self.stop.cancelled() => break None,
                () = age.as_mut(), if !is_old => {
                    // What is in flight goes on; a client that wants more opens another.
                    is_old = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = first_request.as_mut(), if is_timed => {
                    is_timed = false;
                    if !has_asked.load(Ordering::Relaxed) {
                        break None;
                    }
                }
            }
        };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => {
                connection.as_mut().graceful_shutdown();
                let farewell = async {
                    if has_asked.load(Ordering::Relaxed) {
                        self.give_up.cancelled().await;
                    } else {
                        // Half a head, half a preface or nothing at all: nobody waits for an answer.
                        tokio::time::sleep(FAREWELL).await;
                    }
                };
                tokio::select! {
                    ended = connection.as_mut() => Some(ended),
                    () = farewell => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(error = %error, "a connection broke");
        }
    }
}

fn builder(streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    // Not `pipeline_flush`: hyper then takes as much of a body as there is, however little its client reads.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Runs the streams of HTTP/2 connections, so that the drain waits for them too, and ends them with their connection.
#[derive(Debug, Clone)]
struct Streams {
    tracker: TaskTracker,
    give_up: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let give_up = self.give_up.clone();
        // On the heap by itself: a task is moved as a whole when it is made and when it has ended, and this is kilobytes of it.
        let stream = tokio::time::timeout(CALL_MAX, Box::pin(stream));
        self.tracker.spawn(async move { give_up.run_until_cancelled(stream).await });
    }
}
