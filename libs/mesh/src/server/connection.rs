//! One connection to a server, from its first byte to its last call.

use super::admit::Admission;
use super::admit::Admitted;
use super::exchange;
use super::preface::Preface;
use super::request_body::RequestBody;
use crate::http2;
use crate::http2::PING_EVERY;
use crate::identity::Identity;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use crate::methods::METHODS;
use anyhow::Context as _;
use anyhow::ensure;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use std::future::Future;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a peer may take to prove who it is.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a peer without a certificate may stay: long enough to get one.
const ANONYMOUS_LIFE_MAX: Duration = Duration::from_secs(15);
/// How long calls in flight may go on once what the peer has proved is over: for a service, whose calls are bounded by deadlines
/// and whose streams may end in peace, until no new call is taken; for others, until the connection is closed.
const SERVICE_GRACE: Duration = Duration::from_secs(30);
const OPERATOR_GRACE: Duration = Duration::from_secs(30);
const ANONYMOUS_GRACE: Duration = Duration::from_secs(5);
/// How many calls a peer may have in flight on one connection.
const STREAMS_MAX: u32 = 1_024;
/// How many calls a peer may have taken back that were not looked at yet; with more it is taken for an attack (HTTP/2 rapid reset,
/// CVE-2023-44487) and loses its connection. The library's 20 would hit a caller whose calls all time out while this process
/// stands still, so it is as many as a peer may have in flight.
const PENDING_RESETS_MAX: usize = 1_024;
/// How many calls a peer may have that broke the protocol (CVE-2025-8671); h2's default, said here because a limit has a name.
const ERROR_RESETS_MAX: usize = 1_024;
/// A connection ends at this multiple of the age at which the policy has callers replace it, so that our own callers, which do
/// that, are not disturbed, and all others don't stay for ever with the instance that they found first (gRFC A9). Random in
/// between, so that those who came together don't leave together.
const AGE_OF_POLICY: std::ops::Range<f64> = 1.2..1.4;
/// The largest header block that is accepted.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// How much a peer may send before it is read: per stream, and in all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How much of a response may wait for a slow reader.
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;
/// How many calls are looked at together.
const BATCH_MAX: usize = 64;

/// What a connection lives by.
pub(super) struct Life {
    /// Where its calls run.
    pub(super) tasks: TaskTracker,
    /// Say GOAWAY, and finish.
    pub(super) stop: CancellationToken,
    /// End.
    pub(super) abort: CancellationToken,
}

pub(super) async fn serve(socket: TcpStream, identity: Identity, admission: Admission, life: Life) {
    tokio::select! {
        () = life.abort.cancelled() => {}
        served = try_serve(socket, &identity, admission, &life) => {
            if let Err(error) = served {
                tracing::debug!(error = format!("{error:#}"), "a connection ended");
            }
        }
    }
}

async fn try_serve(
    socket: TcpStream,
    identity: &Identity,
    admission: Admission,
    life: &Life,
) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let open = admission.shared.access.admits_anonymous();
    match identity.server(open) {
        None => {
            let admitted = admission.of_peer(identity.peer().clone());
            serve_http(socket, admitted, std::future::pending(), life).await
        }
        Some(server) => {
            let accepting = TlsAcceptor::from(server).accept(socket);
            let tls = tokio::time::timeout(HANDSHAKE_WAIT_MAX, accepting)
                .await
                .context("the peer took too long to prove who it is")??;
            let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let chain: Vec<_> = shown.iter().map(|der| der.clone().into_owned()).collect();
            match chain.first() {
                Some(certificate) => {
                    let peer = PeerIdentity::of_certificate(certificate)?;
                    let outlived = identity.caller_outlived(chain);
                    serve_http(tls, admission.of_peer(peer), outlived, life).await
                }
                // Without `open`, the handshake has refused it.
                None => {
                    let shared = Arc::clone(&admission.shared);
                    let place = shared.anonymous.try_acquire();
                    let _place = place.context("too many peers without a certificate")?;
                    let over = tokio::time::sleep(ANONYMOUS_LIFE_MAX);
                    let admitted = admission.of_peer(PeerIdentity::anonymous());
                    serve_http(tls, admitted, over, life).await
                }
            }
        }
    }
}

/// Serves until the peer leaves, or `over`: then it may finish what is in flight, and has to connect anew.
async fn serve_http<T>(
    io: T,
    admitted: Admitted,
    over: impl Future<Output = ()>,
    life: &Life,
) -> anyhow::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let too_old = outlives(admitted.connection_age_max());
    let (role, closed) = (admitted.role(), admitted.closed());
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .handshake::<_, Bytes>(Preface::new(io))
        .await?;
    let mut pings = connection.ping_pong().expect("nobody took it before");
    let mut silence = pin!(http2::keep_alive(&mut pings, PING_EVERY));
    let mut over = pin!(over);
    let mut calls = Calls { connection, admitted, tasks: life.tasks.clone(), batch: Vec::new() };
    let proof_is_over = tokio::select! {
        served = poll_fn(|context| calls.poll(context)) => return served,
        () = &mut silence => anyhow::bail!("the peer is silent"),
        () = life.stop.cancelled() => false,
        () = &mut over => true,
        () = too_old => false,
    };
    // GOAWAY twice: with the highest id that there is, and, once the peer must have seen that, with the last that was taken. What
    // crossed the first is served; what crosses the second the peer knows to be untouched.
    calls.connection.graceful_shutdown();
    let rest = async {
        tokio::select! {
            served = poll_fn(|context| calls.poll(context)) => served,
            () = silence => anyhow::bail!("the peer is silent"),
        }
    };
    let mut rest = pin!(rest);
    if !proof_is_over {
        tokio::select! {
            served = &mut rest => return served,
            () = over => {}
        }
    }
    // A peer that ignores GOAWAY would go on calling under a proof that it no longer has.
    let grace = match role {
        Role::Service => SERVICE_GRACE,
        Role::Admin | Role::Viewer => OPERATOR_GRACE,
        Role::Anonymous => ANONYMOUS_GRACE,
    };
    if let Ok(served) = tokio::time::timeout(grace, rest.as_mut()).await {
        return served;
    }
    ensure!(role == Role::Service, "the peer did not leave when its proof was over");
    closed.store(true, Ordering::Relaxed);
    rest.await
}

/// Waits until a connection is older than one of its callers would keep it.
async fn outlives(age_of_callers: Option<Duration>) {
    match age_of_callers {
        None => std::future::pending().await,
        Some(age) => tokio::time::sleep(age.mul_f64(rand::random_range(AGE_OF_POLICY))).await,
    }
}

/// A connection and the calls on it.
struct Calls<T> {
    connection: h2::server::Connection<Preface<T>, Bytes>,
    admitted: Admitted,
    /// Where calls run that are not done at once.
    tasks: TaskTracker,
    /// Those that came in together, for as long as they are looked at; kept for its room.
    batch: Vec<(http::Request<RecvStream>, SendResponse<Bytes>)>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Calls<T> {
    /// Serves until the peer leaves.
    ///
    /// All that came in by now is begun here, so that what is done at once is answered with one write, and costs neither a task
    /// nor another thread's time. The rest goes on in tasks of its own.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        loop {
            let accepted = self.connection.poll_accept(context);
            match accepted {
                Poll::Ready(Some(Ok(accepted))) => {
                    self.batch.push(accepted);
                    if self.batch.len() < BATCH_MAX {
                        continue;
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending if self.batch.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
            for (request, respond) in self.batch.drain(..) {
                begin(&self.admitted, &self.tasks, request, respond);
            }
        }
    }
}

/// Begins a call, which goes on in a task unless it ends at once.
fn begin(
    admitted: &Admitted,
    tasks: &TaskTracker,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let method = METHODS.of_path(request.uri().path());
    let head_start = admitted.head_start(method);
    let handling = admitted.call(method, request.map(RequestBody));
    let mut call = Box::pin(exchange::answer(handling, respond));
    if let Some(head_start) = head_start {
        let begun = Instant::now();
        // Whom a first look wakes does not matter: the task looks again.
        let mut context = Context::from_waker(Waker::noop());
        let looked = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context)));
        head_start.took(begun.elapsed());
        match looked {
            Ok(Poll::Ready(())) => return,
            Ok(Poll::Pending) => {}
            // As in a task of its own, it takes nothing with it but its stream. The hook has told of it.
            Err(_) => return,
        }
    }
    tasks.spawn(call);
}

#[cfg(test)]
mod tests;
