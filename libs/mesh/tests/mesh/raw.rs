//! HTTP/2 servers that break off at a chosen moment, without TLS.

use crate::backend::spawn;
use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::server::SendResponse;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// What a server does with each call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// REFUSED_STREAM: not processed.
    Refuse,
    /// Take the request and close the connection: nobody knows.
    Close,
    /// GOAWAY with last id 0: not processed.
    GoAway,
    /// REFUSED_STREAM for the first call, at once or once it has sent something; an answer to all others, once they are read.
    RefuseOnce,
    RefuseOnceAfterData,
    /// CANCEL: it will not be done.
    Cancel,
    /// 403, which is no answer of gRPC.
    Forbid,
    /// UNAVAILABLE in the trailers, after response headers, asking not to be tried again.
    Unavailable,
}

pub(crate) struct Raw {
    pub(crate) address: String,
    calls: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Raw {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (calls, received) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&calls), Arc::clone(&received));
        let task = spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (calls, received) = counts.clone();
                spawn(async move {
                    // Whatever a peer does ends the connection, and nothing else.
                    if matches!(act, Act::GoAway) {
                        go_away(socket, &calls).await.ok();
                    } else {
                        serve(socket, act, &calls, &received).await.ok();
                    }
                });
            }
        });
        Self { address, calls, received, task: task.abort_handle() }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many bytes of requests it has read.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: TcpStream,
    act: Act,
    calls: &AtomicUsize,
    received: &Arc<AtomicUsize>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let body = request.into_body();
        match act {
            Act::Close | Act::GoAway => return Ok(()),
            Act::Cancel => respond.send_reset(Reason::CANCEL),
            Act::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            Act::RefuseOnce if is_first => respond.send_reset(Reason::REFUSED_STREAM),
            Act::RefuseOnceAfterData if is_first => {
                spawn(refuse_after_data(body, respond));
            }
            Act::RefuseOnce | Act::RefuseOnceAfterData => {
                spawn(read_and_answer(body, respond, Arc::clone(received)));
            }
            Act::Forbid => {
                let response = http::Response::builder().status(403).body(()).unwrap();
                respond.send_response(response, true)?;
            }
            Act::Unavailable => {
                let mut stream = respond.send_response(http::Response::new(()), false)?;
                stream.send_data(Bytes::new(), false)?;
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "14".parse().unwrap());
                trailers.insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
                stream.send_trailers(trailers)?;
            }
        }
    }
    Ok(())
}

async fn refuse_after_data(mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    body.data().await;
    respond.send_reset(Reason::REFUSED_STREAM);
}

async fn read_and_answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    received: Arc<AtomicUsize>,
) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        received.fetch_add(data.len(), Ordering::SeqCst);
        body.flow_control().release_capacity(data.len())?;
    }
    let mut stream = respond.send_response(http::Response::new(()), false)?;
    // One empty message.
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    let trailers = [("grpc-status", "0")];
    let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    stream.send_trailers(http::HeaderMap::from_iter(trailers))
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// No library says GOAWAY with an id lower than it has seen, so this one writes the frames itself.
async fn go_away(mut socket: TcpStream, calls: &AtomicUsize) -> std::io::Result<()> {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    write_frame(&mut socket, SETTINGS, 0, &[]).await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("24 bits")];
        socket.read_exact(&mut payload).await?;
        match (head[3], head[4] & ACK) {
            (SETTINGS, 0) => write_frame(&mut socket, SETTINGS, ACK, &[]).await?,
            (PING, 0) => write_frame(&mut socket, PING, ACK, &payload).await?,
            (HEADERS, _) => {
                calls.fetch_add(1, Ordering::SeqCst);
                // Last stream 0, NO_ERROR.
                write_frame(&mut socket, GOAWAY, 0, &[0; 8]).await?;
            }
            _ => {}
        }
    }
}

async fn write_frame(
    socket: &mut TcpStream,
    kind: u8,
    flags: u8,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u8::try_from(payload.len()).expect("small frames");
    let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    socket.write_all(&frame).await
}
