//! What is between the calls and the reader of a tap: a bounded queue that leaves out and counts, and never makes a call
//! wait.

use super::Taps;
use super::decode;
use super::decode::Undecoded;
use super::event::TapEvent;
use super::event::Tapped;
use super::event::TappedBegin;
use super::event::TappedEnd;
use super::filter::TapFilter;
use super::filter::TapLimit;
use crate::gcra::Bucket;
use crate::gcra::Gcra;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;

/// How many events wait for the reader.
const EVENTS_MAX: usize = 256;
/// How many bytes of messages a tap holds, waiting for the reader or for the end of their calls.
const BYTES_MAX: usize = 4 << 20;

/// One tap, as calls see it.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) filter: TapFilter,
    pub(super) limit: TapLimit,
    opened: Instant,
    rate: Gcra,
    bucket: Bucket,
    queue: mpsc::Sender<Queued>,
    calls: AtomicU64,
    dropped: AtomicU64,
    /// How many bytes of messages it holds.
    held: AtomicUsize,
}

/// An event on its way to the reader.
#[derive(Debug)]
pub(super) struct Queued {
    call: u64,
    what: Raw,
}

/// What happened, before it is decoded.
#[derive(Debug)]
pub(super) enum Raw {
    Begin(Arc<TappedBegin>),
    Message(Undecoded, Held),
    End(TappedEnd),
}

/// Bytes that count against a tap's bound until they are dropped.
#[derive(Debug)]
pub(super) struct Held {
    tap: Arc<Tap>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tap.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Tap {
    pub(super) fn new(filter: TapFilter, limit: TapLimit) -> (Self, mpsc::Receiver<Queued>) {
        let (queue, events) = mpsc::channel(EVENTS_MAX);
        let rate = limit.events_per_second;
        let tap = Self {
            filter,
            limit,
            opened: Instant::now(),
            // A call needs two at once.
            rate: Gcra::new(rate, Duration::from_secs(1), rate.max(2)),
            bucket: Bucket::default(),
            queue,
            calls: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            held: AtomicUsize::new(0),
        };
        (tap, events)
    }

    /// Shows that a call began; its number, or none if it is left out. What is let in to show its end is set aside.
    pub(super) fn begin(&self, begin: Arc<TappedBegin>) -> Option<u64> {
        if !self.may_show(2) {
            return None;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.push(call, Raw::Begin(begin)).then_some(call)
    }

    /// Holds a message's bytes; none if that would be too many.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let held = Held { tap: Arc::clone(self), bytes };
        if before + bytes > BYTES_MAX {
            self.drop_one();
            return None;
        }
        Some(held)
    }

    /// Shows a message.
    pub(super) fn message(&self, call: u64, message: Undecoded, held: Held) {
        if self.may_show(1) {
            self.push(call, Raw::Message(message, held));
        }
    }

    /// Shows that a call ended.
    pub(super) fn end(&self, call: u64, end: TappedEnd) {
        self.push(call, Raw::End(end));
    }

    fn may_show(&self, events: u32) -> bool {
        let fits = self.rate.take(&self.bucket, self.opened.elapsed(), events).is_ok();
        if !fits {
            self.drop_one();
        }
        fits
    }

    fn push(&self, call: u64, what: Raw) -> bool {
        let pushed = self.queue.try_send(Queued { call, what }).is_ok();
        if !pushed {
            self.drop_one();
        }
        pushed
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The events of a tap, for as long as it is held.
#[derive(Debug)]
pub struct TapStream {
    taps: Taps,
    tap: Arc<Tap>,
    events: mpsc::Receiver<Queued>,
}

impl TapStream {
    pub(super) fn new(taps: Taps, tap: Arc<Tap>, events: mpsc::Receiver<Queued>) -> Self {
        Self { taps, tap, events }
    }
}

impl Stream for TapStream {
    type Item = TapEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TapEvent>> {
        let this = self.get_mut();
        let Some(Queued { call, what }) = ready!(this.events.poll_recv(context)) else {
            return Poll::Ready(None);
        };
        let what = match what {
            Raw::Begin(begin) => Tapped::Begin(Arc::unwrap_or_clone(begin)),
            Raw::Message(message, _held) => Tapped::Message(decode::message(message)),
            Raw::End(end) => Tapped::End(end),
        };
        let dropped = this.tap.dropped.load(Ordering::Relaxed);
        Poll::Ready(Some(TapEvent { call, dropped, what }))
    }
}

impl Drop for TapStream {
    fn drop(&mut self) {
        self.taps.close(&self.tap);
    }
}
