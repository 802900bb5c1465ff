//! Taps: an operator sees calls as they come and go, decoded and without their secrets.
//!
//! A call that nobody taps pays one relaxed load. One that is tapped is never delayed: what does not fit into a tap's queue is
//! left out and counted. Messages are copied on the call's way and decoded on the reader's.

mod body;
mod call;
mod decode;
mod event;
mod filter;
mod frames;
mod metadata;
mod queue;
mod render;

pub use event::Content;
pub use event::Direction;
pub use event::TapEvent;
pub use event::Tapped;
pub use event::TappedBegin;
pub use event::TappedEnd;
pub use event::TappedMessage;
pub use filter::TapFilter;
pub use filter::TapLimit;
pub use queue::TapStream;

pub(super) use body::TappedBody;
pub(super) use call::TappedCall;

use crate::methods::Method;
use arc_swap::ArcSwap;
use filter::Incoming;
use http::HeaderMap;
use queue::Tap;
use rpc::Deadline;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How many taps a server has at a time.
pub const TAPS_MAX: usize = 4;

/// What would show itself to itself, without end.
const NEVER_TAPPED: &str = "/linkmesh.mesh.v1.MeshService/Tap";

/// Where a server's taps are opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Taps {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    /// The instance that is tapped.
    instance: String,
    /// Whether there is any: all that a call looks at otherwise.
    any: AtomicBool,
    taps: ArcSwap<Vec<Arc<Tap>>>,
}

/// A call that has come in, as it is known before anything was decided about it.
pub(super) struct Arrival<'a> {
    pub(super) caller: &'a str,
    pub(super) method: &'static Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) now: Instant,
}

impl Taps {
    pub(super) fn new(instance: &str) -> Self {
        let hub = Hub {
            instance: instance.to_owned(),
            any: AtomicBool::new(false),
            taps: ArcSwap::default(),
        };
        Self { hub: Arc::new(hub) }
    }

    /// Opens a tap, which is closed when the stream is dropped.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a filter or limit out of bounds; RESOURCE_EXHAUSTED if there are [`TAPS_MAX`] already.
    pub fn open(&self, filter: TapFilter, limit: TapLimit) -> Result<TapStream, rpc::Error> {
        filter.validate()?;
        limit.validate()?;
        let (tap, events) = Tap::new(filter, limit);
        let tap = Arc::new(tap);
        let mut full = false;
        self.hub.taps.rcu(|taps| {
            full = taps.len() >= TAPS_MAX;
            let mut taps = taps.to_vec();
            if !full {
                taps.push(Arc::clone(&tap));
            }
            taps
        });
        if full {
            let message = format!("`{}` has {TAPS_MAX} taps already", self.hub.instance);
            return Err(rpc::Error::overloaded(message, Duration::from_secs(10)));
        }
        self.hub.any.store(true, Ordering::Relaxed);
        Ok(TapStream::new(self.clone(), tap, events))
    }

    /// Closes a tap.
    fn close(&self, closed: &Arc<Tap>) {
        self.hub.taps.rcu(|taps| {
            taps.iter().filter(|tap| !Arc::ptr_eq(tap, closed)).cloned().collect::<Vec<_>>()
        });
        // One that is opened meanwhile says so after it is on the list, so this can't hide it for longer than one more look.
        self.hub.any.store(false, Ordering::SeqCst);
        if !self.hub.taps.load().is_empty() {
            self.hub.any.store(true, Ordering::SeqCst);
        }
    }

    /// Shows a call that came in to those taps that want it; none if there are none.
    pub(super) fn begin(&self, arrival: &Arrival<'_>) -> Option<Arc<TappedCall>> {
        if !self.hub.any.load(Ordering::Relaxed) {
            return None;
        }
        self.begin_shown(arrival)
    }

    #[cold]
    fn begin_shown(&self, arrival: &Arrival<'_>) -> Option<Arc<TappedCall>> {
        if arrival.path == NEVER_TAPPED {
            return None;
        }
        let incoming = Incoming {
            caller: arrival.caller,
            path: arrival.path,
            headers: arrival.headers,
            dice: rand::random_range(0.0..100.0),
        };
        let taps = self.hub.taps.load();
        let taps: Vec<_> = taps.iter().filter(|tap| tap.filter.takes(&incoming)).cloned().collect();
        if taps.is_empty() {
            return None;
        }
        let stated = arrival.headers.get(Deadline::HEADER).and_then(|value| value.to_str().ok());
        let deadline = stated.and_then(|text| Deadline::parse(text, arrival.now).ok());
        let begin = TappedBegin {
            caller: arrival.caller.to_owned(),
            instance: self.hub.instance.clone(),
            method: arrival.method.name.clone(),
            path: arrival.path.to_owned(),
            metadata: metadata::readable(arrival.headers),
            time_left: deadline.map(|deadline| deadline.left(arrival.now)),
            trace_id: event::trace_id(arrival.headers),
        };
        TappedCall::begin(taps, arrival, begin)
    }
}
