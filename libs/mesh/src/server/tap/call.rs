//! A call that is tapped, while it is under way.

use super::Arrival;
use super::decode::Undecoded;
use super::event::Direction;
use super::event::TappedBegin;
use super::event::TappedEnd;
use super::frames::Splitter;
use super::frames::Whole;
use super::queue::Held;
use super::queue::Tap;
use crate::methods::Method;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;
use tonic::Code;

/// How many messages are held of a call that is shown only once it has ended; the first ones.
const HELD_MESSAGES_MAX: usize = 32;

/// Shared by both directions of a call. Only calls that are tapped take the lock.
#[derive(Debug)]
pub(in crate::server) struct TappedCall {
    method: &'static Method,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begin: Arc<TappedBegin>,
    shown: Vec<Shown>,
    request: Half,
    response: Half,
    ended: bool,
}

#[derive(Debug)]
struct Half {
    splitter: Splitter,
    /// Of its messages that are compressed.
    encoding: Option<Arc<str>>,
}

/// What one tap has of a call.
#[derive(Debug)]
struct Shown {
    tap: Arc<Tap>,
    what: Stage,
}

#[derive(Debug)]
enum Stage {
    /// By this number.
    Live(u64),
    /// Until its end tells whether it is shown.
    Waiting(Vec<(Undecoded, Held)>),
}

impl TappedCall {
    /// Shows the call to those of `taps` that have room for it.
    pub(super) fn begin(
        taps: Vec<Arc<Tap>>,
        arrival: &Arrival<'_>,
        begin: TappedBegin,
    ) -> Option<Arc<Self>> {
        let begin = Arc::new(begin);
        let stage = |tap: &Tap| match tap.filter.waits_for_the_end() {
            true => Some(Stage::Waiting(Vec::new())),
            false => tap.begin(Arc::clone(&begin)).map(Stage::Live),
        };
        let shown: Vec<_> = taps
            .into_iter()
            .filter_map(|tap| stage(&tap).map(|what| Shown { tap, what }))
            .collect();
        let bytes_max = shown.iter().map(|shown| shown.tap.limit.message_bytes_max).max()?;
        let half = |headers: &HeaderMap| Half {
            splitter: Splitter::new(bytes_max),
            encoding: encoding(headers),
        };
        let state = State {
            request: half(arrival.headers),
            response: half(&HeaderMap::new()),
            begin,
            shown,
            ended: false,
        };
        let (method, started) = (arrival.method, arrival.now);
        Some(Arc::new(Self { method, started, state: Mutex::new(state) }))
    }

    /// The response's head, which says how its messages are compressed.
    pub(in crate::server) fn answered(&self, head: &HeaderMap) {
        self.locked(|state| state.response.encoding = encoding(head));
    }

    /// A piece of one direction has passed.
    pub(in crate::server) fn passed(&self, direction: Direction, data: &Bytes) {
        self.locked(|state| {
            let State { shown, request, response, .. } = state;
            let half = match direction {
                Direction::Request => request,
                Direction::Response => response,
            };
            let encoding = half.encoding.clone();
            half.splitter.feed(data, |whole| {
                show(shown, self.method, direction, encoding.as_ref(), whole);
            });
        });
    }

    /// It is over; the first time counts.
    pub(in crate::server) fn end(&self, code: Code, message: &str) {
        let latency = self.started.elapsed();
        self.locked(|state| {
            if std::mem::replace(&mut state.ended, true) {
                return;
            }
            let end = TappedEnd {
                code,
                message: message.to_owned(),
                latency,
                request_bytes: state.request.splitter.bytes,
                response_bytes: state.response.splitter.bytes,
            };
            for Shown { tap, what } in std::mem::take(&mut state.shown) {
                match what {
                    Stage::Live(number) => tap.end(number, end.clone()),
                    Stage::Waiting(_) if !tap.filter.keeps(code, latency) => {}
                    Stage::Waiting(messages) => {
                        let Some(number) = tap.begin(Arc::clone(&state.begin)) else { continue };
                        for (message, held) in messages {
                            tap.message(number, message, held);
                        }
                        tap.end(number, end.clone());
                    }
                }
            }
        });
    }

    fn locked(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Nobody said how it ended: its caller went away, or its handler did.
impl Drop for TappedCall {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "");
    }
}

fn encoding(headers: &HeaderMap) -> Option<Arc<str>> {
    headers.get("grpc-encoding")?.to_str().ok().map(Arc::from)
}

fn show(
    shown: &mut [Shown],
    method: &'static Method,
    direction: Direction,
    encoding: Option<&Arc<str>>,
    whole: Whole,
) {
    let Whole { number, bytes, compressed, kept } = whole;
    let kept = kept.map(Bytes::from);
    for Shown { tap, what } in shown {
        let bytes_max = tap.limit.message_bytes_max;
        if bytes_max == 0 {
            continue;
        }
        let kept = kept.clone().filter(|kept| kept.len() <= bytes_max);
        let Some(held) = tap.hold(kept.as_ref().map_or(0, Bytes::len)) else { continue };
        let encoding = compressed.then(|| encoding.cloned().unwrap_or_else(|| "none".into()));
        let message = Undecoded { method, direction, number, bytes, encoding, bytes_max, kept };
        match what {
            Stage::Live(call) => tap.message(*call, message, held),
            Stage::Waiting(messages) if messages.len() < HELD_MESSAGES_MAX => {
                messages.push((message, held));
            }
            Stage::Waiting(_) => tap.drop_one(),
        }
    }
}
