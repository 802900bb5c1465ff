//! What a call sends: one message that is kept until the call is done, so that it can be sent again, or a stream that
//! can't.

use bytes::Bytes;
use bytes::BytesMut;
use h2::Reason;
use h2::SendStream;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::future::poll_fn;
use tonic::Status;
use tonic::body::Body;

/// How much of a request is kept to be sent again.
pub(super) const REPLAY_BYTES_MAX: usize = 4 << 20;
/// How much of a stream is handed to the HTTP/2 library at a time.
const CHUNK_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) enum Payload {
    /// All of it.
    Whole(Bytes),
    /// What was read so far, and the rest; gone once it was sent.
    Stream(Option<Box<(Bytes, Body)>>),
}

/// What is to be sent in one attempt.
pub(super) enum Sending {
    Whole(Bytes),
    Stream(Bytes, Body),
}

impl Payload {
    /// Reads a request of one message, which is a stream all the same if it is too large to be kept.
    pub(super) async fn read(mut body: Body) -> Result<Self, Status> {
        let Some(first) = next(&mut body).await? else { return Ok(Self::Whole(Bytes::new())) };
        if first.len() <= REPLAY_BYTES_MAX && body.is_end_stream() {
            return Ok(Self::Whole(first));
        }
        let Some(second) = next(&mut body).await? else { return Ok(Self::Whole(first)) };
        let mut read = BytesMut::from(first);
        read.extend_from_slice(&second);
        while read.len() <= REPLAY_BYTES_MAX {
            let Some(more) = next(&mut body).await? else { return Ok(Self::Whole(read.freeze())) };
            read.extend_from_slice(&more);
        }
        Ok(Self::Stream(Some(Box::new((read.freeze(), body)))))
    }

    /// A request of any number of messages.
    pub(super) fn stream(body: Body) -> Self {
        Self::Stream(Some(Box::new((Bytes::new(), body))))
    }

    /// Takes what an attempt sends; none if it was a stream and is gone.
    pub(super) fn take(&mut self) -> Option<Sending> {
        match self {
            Self::Whole(bytes) => Some(Sending::Whole(bytes.clone())),
            Self::Stream(stream) => {
                let (head, rest) = *stream.take()?;
                Some(Sending::Stream(head, rest))
            }
        }
    }

    /// Gives back what was taken and not sent.
    pub(super) fn put_back(&mut self, sending: Sending) {
        if let Sending::Stream(head, rest) = sending {
            *self = Self::Stream(Some(Box::new((head, rest))));
        }
    }

    /// Whether there is something to send.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Stream(None))
    }
}

/// The next piece of data; trailers, which a gRPC request has none of, are skipped.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Status> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Sends a stream as fast as the peer takes it.
pub(super) async fn pump(mut stream: SendStream<Bytes>, head: Bytes, mut rest: Body) {
    if send(&mut stream, head).await.is_err() {
        return;
    }
    loop {
        let data = tokio::select! {
            data = next(&mut rest) => data,
            // The peer wants no more of it; the response says why.
            _ = poll_fn(|context| stream.poll_reset(context)) => return,
        };
        let sent = match data {
            Ok(Some(data)) => send(&mut stream, data).await,
            Ok(None) => {
                // An error means that the stream is closed already.
                stream.send_data(Bytes::new(), true).ok();
                return;
            }
            Err(_) => {
                stream.send_reset(Reason::CANCEL);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The stream is closed.
struct Closed;

async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Closed> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(CHUNK_BYTES_MAX));
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(capacity)) = capacity else { return Err(Closed) };
        let piece = data.split_to(capacity.min(data.len()));
        stream.send_data(piece, false).map_err(|_| Closed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn a_message_that_fits_is_kept_and_a_larger_one_is_a_stream() {
        let read = |bytes: usize| Payload::read(Body::new(Full::new(Bytes::from(vec![0; bytes]))));
        let mut small = read(REPLAY_BYTES_MAX).await.unwrap();
        assert!(small.take().is_some() && small.take().is_some() && small.is_there());
        let parts = [REPLAY_BYTES_MAX, 1].map(|bytes| Ok::<_, Status>(Bytes::from(vec![0; bytes])));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(
            parts.map(|part| part.map(http_body::Frame::data)),
        ));
        let mut large = Payload::read(Body::new(body)).await.unwrap();
        assert!(large.take().is_some() && large.take().is_none() && !large.is_there());
    }

    #[tokio::test]
    async fn an_empty_request_is_whole() {
        assert!(matches!(Payload::read(Body::empty()).await.unwrap(), Payload::Whole(_)));
    }
}
