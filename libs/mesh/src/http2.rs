//! What both ends do with HTTP/2 used straight: read a stream, write one as fast as the peer takes it, see whether the peer is
//! still there.

use bytes::Bytes;
use h2::Ping;
use h2::RecvStream;
use h2::SendStream;
use http_body::Frame;
use std::future::poll_fn;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// How often a connection is probed, and how long the answer may take (Linkerd: 10 s and 3 s).
pub(crate) const PING_EVERY: Duration = Duration::from_secs(10);
pub(crate) const PING_WAIT_MAX: Duration = Duration::from_secs(3);
/// How much of a stream is handed to the HTTP/2 library at a time.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The stream is closed, by whichever end.
#[derive(Debug)]
pub(crate) struct Closed;

/// The next frame of a stream. What is read makes room for more.
pub(crate) fn poll_frame(
    stream: &mut RecvStream,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    match stream.poll_data(context) {
        Poll::Ready(Some(Ok(data))) => {
            // An error means that the stream is closed, which the next poll says.
            stream.flow_control().release_capacity(data.len()).ok();
            Poll::Ready(Some(Ok(Frame::data(data))))
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
        Poll::Ready(None) => stream
            .poll_trailers(context)
            .map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers))),
        Poll::Pending => Poll::Pending,
    }
}

/// Sends data as the peer has room for it. `touch` is called for each piece.
pub(crate) async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    touch: impl Fn(),
) -> Result<(), Closed> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(CHUNK_BYTES_MAX));
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(capacity)) = capacity else { return Err(Closed) };
        let piece = data.split_to(capacity.min(data.len()));
        stream.send_data(piece, false).map_err(|_| Closed)?;
        touch();
    }
    Ok(())
}

/// Returns when the peer has stopped to answer.
pub(crate) async fn keep_alive(pings: &mut h2::PingPong, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let pong = tokio::time::timeout(PING_WAIT_MAX, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}
