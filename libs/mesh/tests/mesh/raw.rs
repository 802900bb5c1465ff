//! HTTP/2 servers that break off at a chosen moment, without TLS.

use crate::backend::spawn;
use bytes::Bytes;
use h2::Reason;
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
    /// UNAVAILABLE in the trailers, after response headers, asking not to be tried again.
    Unavailable,
}

pub(crate) struct Raw {
    pub(crate) address: String,
    calls: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Raw {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let task = spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let counted = Arc::clone(&counted);
                spawn(async move {
                    // Whatever a peer does ends the connection, and nothing else.
                    match act {
                        Act::GoAway => go_away(socket, &counted).await.ok(),
                        Act::Refuse | Act::Close | Act::Unavailable => {
                            serve(socket, act, &counted).await.ok()
                        }
                    }
                });
            }
        });
        Self { address, calls, task: task.abort_handle() }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, act: Act, calls: &AtomicUsize) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        calls.fetch_add(1, Ordering::SeqCst);
        match act {
            Act::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            Act::Close | Act::GoAway => return Ok(()),
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
