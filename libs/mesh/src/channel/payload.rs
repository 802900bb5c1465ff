//! What a call sends: one message that is kept until the call is done, so that it can be sent again, or a stream that
//! can't once something of it was read.

use super::idle::Idle;
use crate::http2::send;
use bytes::Bytes;
use bytes::BytesMut;
use h2::Reason;
use h2::SendStream;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tonic::Status;
use tonic::body::Body;

/// How much of a request is kept to be sent again.
pub(super) const REPLAY_BYTES_MAX: usize = 4 << 20;
/// How much is kept for all calls of a process; what goes beyond is sent once.
const REPLAY_BYTES_TOTAL_MAX: usize = 64 << 20;
/// What a call may keep without being counted: no more than the rest of a call's state.
const REPLAY_BYTES_UNCOUNTED: usize = 4 << 10;

/// How much is kept for all calls.
#[derive(Debug, Default)]
pub(super) struct Replays {
    bytes: Arc<AtomicUsize>,
}

/// What one call keeps; given back when dropped.
#[derive(Debug)]
pub(super) struct Kept {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Replays {
    /// Whether so much may be kept, and the place for it if it counts.
    fn keep(&self, bytes: usize) -> Result<Option<Kept>, TooMuch> {
        if bytes <= REPLAY_BYTES_UNCOUNTED {
            return Ok(None);
        }
        let kept = Kept { all: Arc::clone(&self.bytes), bytes };
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > REPLAY_BYTES_TOTAL_MAX { Err(TooMuch) } else { Ok(Some(kept)) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct TooMuch;

#[derive(Debug)]
pub(super) enum Payload {
    /// All of it, to be sent any number of times.
    Whole { bytes: Bytes, _kept: Option<Kept> },
    /// To be sent once; gone once it was.
    Once(Option<Box<Sending>>),
}

/// What is to be sent in one attempt.
#[derive(Debug)]
pub(super) enum Sending {
    Whole(Bytes),
    /// What was read so far, and the rest.
    Stream(Bytes, Body),
}

impl Payload {
    /// Reads a request of one message, which is a stream all the same if it is too large to be kept.
    pub(super) async fn read(mut body: Body, replays: &Replays) -> Result<Self, Status> {
        let Some(first) = next(&mut body).await? else {
            return Ok(Self::whole(Bytes::new(), replays));
        };
        if first.len() <= REPLAY_BYTES_MAX && body.is_end_stream() {
            return Ok(Self::whole(first, replays));
        }
        let Some(second) = next(&mut body).await? else { return Ok(Self::whole(first, replays)) };
        let mut read = BytesMut::from(first);
        read.extend_from_slice(&second);
        while read.len() <= REPLAY_BYTES_MAX {
            let Some(more) = next(&mut body).await? else {
                return Ok(Self::whole(read.freeze(), replays));
            };
            read.extend_from_slice(&more);
        }
        Ok(Self::once(Sending::Stream(read.freeze(), body)))
    }

    /// A request of any number of messages.
    pub(super) fn stream(body: Body) -> Self {
        Self::once(Sending::Stream(Bytes::new(), body))
    }

    fn whole(bytes: Bytes, replays: &Replays) -> Self {
        match replays.keep(bytes.len()) {
            Ok(kept) => Self::Whole { bytes, _kept: kept },
            Err(TooMuch) => Self::once(Sending::Whole(bytes)),
        }
    }

    fn once(sending: Sending) -> Self {
        Self::Once(Some(Box::new(sending)))
    }

    /// Takes what an attempt sends; none if it was to be sent once, and was.
    pub(super) fn take(&mut self) -> Option<Sending> {
        match self {
            Self::Whole { bytes, .. } => Some(Sending::Whole(bytes.clone())),
            Self::Once(sending) => sending.take().map(|sending| *sending),
        }
    }

    /// Gives back what was taken, and of which the peer took nothing.
    pub(super) fn put_back(&mut self, unsent: Sending) {
        if let Self::Once(place) = self {
            *place = Some(Box::new(unsent));
        }
    }

    /// All of the request, if it is kept.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole { bytes, .. } => Some(bytes),
            Self::Once(_) => None,
        }
    }

    /// Whether there is something to send.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Once(None))
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

/// Sends a stream as fast as the peer takes it. Gives it back if the peer wanted nothing of it before any more than `head` was
/// read.
pub(super) async fn pump(
    mut stream: SendStream<Bytes>,
    head: Bytes,
    mut rest: Body,
    idle: Option<Idle>,
) -> Option<Sending> {
    let touch = || idle.iter().for_each(Idle::touch);
    if send(&mut stream, head.clone(), touch).await.is_err() {
        return Some(Sending::Stream(head, rest));
    }
    // `head` is let go of as soon as it could no longer be sent again.
    let mut unread = Some(head);
    loop {
        let data = tokio::select! {
            data = next(&mut rest) => data,
            // The peer wants no more of it; the response says why.
            _ = poll_fn(|context| stream.poll_reset(context)) => {
                return unread.map(|head| Sending::Stream(head, rest));
            }
        };
        unread = None;
        let sent = match data {
            Ok(Some(data)) => send(&mut stream, data, touch).await,
            Ok(None) => {
                // An error means that the stream is closed already.
                stream.send_data(Bytes::new(), true).ok();
                return None;
            }
            Err(_) => {
                stream.send_reset(Reason::CANCEL);
                return None;
            }
        };
        if sent.is_err() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn body(bytes: usize) -> Body {
        Body::new(Full::new(Bytes::from(vec![0; bytes])))
    }

    #[tokio::test]
    async fn a_message_that_fits_is_kept_and_a_larger_one_is_a_stream() {
        let replays = Replays::default();
        let mut small = Payload::read(body(REPLAY_BYTES_MAX), &replays).await.unwrap();
        assert!(small.take().is_some() && small.take().is_some() && small.is_there());
        let parts = [REPLAY_BYTES_MAX, 1].map(|bytes| Ok::<_, Status>(Bytes::from(vec![0; bytes])));
        let stream = http_body_util::StreamBody::new(futures_util::stream::iter(
            parts.map(|part| part.map(http_body::Frame::data)),
        ));
        let mut large = Payload::read(Body::new(stream), &replays).await.unwrap();
        assert!(large.take().is_some() && large.take().is_none() && !large.is_there());
    }

    #[tokio::test]
    async fn an_empty_request_is_whole() {
        let read = Payload::read(Body::empty(), &Replays::default()).await.unwrap();
        assert!(matches!(read, Payload::Whole { .. }));
    }

    #[tokio::test]
    async fn what_all_calls_keep_is_bounded_and_beyond_it_a_message_is_sent_once() {
        let replays = Replays::default();
        let mut kept = Vec::new();
        for _ in 0..REPLAY_BYTES_TOTAL_MAX / REPLAY_BYTES_MAX {
            kept.push(Payload::read(body(REPLAY_BYTES_MAX), &replays).await.unwrap());
        }
        let mut beyond = Payload::read(body(REPLAY_BYTES_MAX), &replays).await.unwrap();
        assert!(beyond.take().is_some() && !beyond.is_there());
        let small = Payload::read(body(100), &replays).await.unwrap();
        assert!(small.bytes().is_some(), "small ones are always kept");
        kept.clear();
        assert_eq!(replays.bytes.load(Ordering::Relaxed), 0);
        assert!(Payload::read(body(REPLAY_BYTES_MAX), &replays).await.unwrap().bytes().is_some());
    }

    #[tokio::test]
    async fn what_was_not_sent_can_be_put_back() {
        let mut payload = Payload::stream(body(1));
        let unsent = payload.take().unwrap();
        assert!(!payload.is_there());
        payload.put_back(unsent);
        assert!(payload.is_there());
    }
}
