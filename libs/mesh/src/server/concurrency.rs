//! How many calls a server works on at a time, and which it refuses when there are more: the least critical first, before anything
//! of them is decoded.
//!
//! Each method has a limit of its own that follows its response times ([`Gradient`]), so that one that is slow refuses its own calls
//! and not those of others, and what is usual for one is not confused with what is for another. All together stay below the
//! policy's `calls_max`. Streams live for hours and say nothing by how long they take: they have a bound of their own and no
//! part in the limits. A call costs a few atomic additions; a limit is computed anew by whichever call ends a window.

use super::gradient::Gradient;
use super::gradient::Window;
use crate::methods::METHODS;
use crate::methods::Messages;
use crate::methods::Method;
use crate::policy::Concurrency;
use crate::policy::Criticality;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tonic::Code;

/// How many streams an instance serves at a time.
const STREAMS_MAX: usize = 10_000;
/// How long response times are looked at before a limit changes (Envoy: 100 ms; Netflix: 100 to 1,000 ms) ...
const WINDOW: Duration = Duration::from_millis(250);
/// ... and at how many calls at least.
const WINDOW_CALLS_MIN: u64 = 10;

/// All that an instance works on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Limiter(Arc<State>);

#[derive(Debug)]
struct State {
    calls: AtomicUsize,
    streams: AtomicUsize,
    /// By the method's index; the last for those that no descriptor knows, which count as streams.
    methods: Box<[PerMethod]>,
}

#[derive(Debug, Default)]
struct PerMethod {
    in_flight: AtomicUsize,
    /// 0: none yet.
    limit: AtomicUsize,
    usual_nanos: AtomicU64,
    slow: AtomicBool,
    held_back: AtomicU32,
    limit_after: AtomicUsize,
    // Of the window under way:
    /// When it may end, in nanoseconds since the server began; `CLOSING` while a call computes.
    ends_at: AtomicU64,
    calls: AtomicU64,
    nanos: AtomicU64,
    in_flight_max: AtomicUsize,
    refused: AtomicBool,
}

const CLOSING: u64 = u64::MAX;

/// A call that is let in; until it is dropped, it counts.
#[derive(Debug)]
pub(super) struct Permit {
    state: Arc<State>,
    /// None: a stream.
    method: Option<usize>,
    bounds: (usize, usize),
}

/// The call is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shed {
    /// What was in flight, and of how many.
    pub(super) in_flight: usize,
    pub(super) limit: usize,
}

impl Limiter {
    pub(super) fn new() -> Self {
        let methods = (0..METHODS.count()).map(|_| PerMethod::default()).collect();
        let state = State { calls: AtomicUsize::new(0), streams: AtomicUsize::new(0), methods };
        Self(Arc::new(state))
    }

    /// Lets a call in, or refuses it.
    pub(super) fn admit(
        &self,
        method: &Method,
        criticality: Criticality,
        policy: &Concurrency,
    ) -> Result<Permit, Shed> {
        let bounds = (policy.calls_min, policy.calls_max);
        let unary = method.requests == Messages::One && method.responses == Messages::One;
        let Some(index) = method.index.filter(|_| unary) else {
            enter(&self.0.streams, share(STREAMS_MAX, criticality))?;
            return Ok(Permit { state: Arc::clone(&self.0), method: None, bounds });
        };
        let of_method = &self.0.methods[index];
        let limit = if policy.adaptive { of_method.limit(bounds) } else { policy.calls_max };
        let refused = |shed| {
            of_method.refused.store(true, Relaxed);
            shed
        };
        let in_flight = enter(&of_method.in_flight, share(limit, criticality)).map_err(refused)?;
        if let Err(shed) = enter(&self.0.calls, share(policy.calls_max, criticality)) {
            of_method.in_flight.fetch_sub(1, Relaxed);
            return Err(refused(shed));
        }
        if of_method.in_flight_max.load(Relaxed) < in_flight {
            of_method.in_flight_max.fetch_max(in_flight, Relaxed);
        }
        Ok(Permit { state: Arc::clone(&self.0), method: Some(index), bounds })
    }

    /// The limits that are in force, by method, of those that have one.
    pub(super) fn limits(&self) -> impl Iterator<Item = (usize, usize)> {
        let limits = self.0.methods.iter().map(|method| method.limit.load(Relaxed));
        limits.enumerate().filter(|(_, limit)| *limit > 0)
    }

    /// Calls and streams in flight.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.0.calls.load(Relaxed), self.0.streams.load(Relaxed))
    }
}

/// Counts one more, unless that is more than `limit`; how many there are then.
fn enter(count: &AtomicUsize, limit: usize) -> Result<usize, Shed> {
    let before = count.fetch_add(1, Relaxed);
    if before < limit {
        return Ok(before + 1);
    }
    count.fetch_sub(1, Relaxed);
    Err(Shed { in_flight: before, limit })
}

/// How much of a limit calls may use up: what is left is for those that matter more.
fn share(limit: usize, criticality: Criticality) -> usize {
    let percent = match criticality {
        Criticality::Sheddable => 50,
        Criticality::Normal => 90,
        Criticality::Critical => 100,
    };
    (limit * percent).div_ceil(100)
}

impl Permit {
    /// The call ended with this code, so long after it came, at `now` since the server began.
    pub(super) fn finish(self, code: Code, took: Duration, now: Duration) {
        if let Some(index) = self.method {
            self.state.methods[index].observe(code, took, now, self.bounds);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.method {
            None => self.state.streams.fetch_sub(1, Relaxed),
            Some(index) => {
                self.state.calls.fetch_sub(1, Relaxed);
                self.state.methods[index].in_flight.fetch_sub(1, Relaxed)
            }
        };
    }
}

impl PerMethod {
    fn limit(&self, (least, most): (usize, usize)) -> usize {
        match self.limit.load(Relaxed) {
            0 => most,
            limit => limit.clamp(least, most),
        }
    }

    fn observe(&self, code: Code, took: Duration, now: Duration, bounds: (usize, usize)) {
        let took = nanos(took);
        // What failed fast says nothing about how long the work takes; what was given up took at least this long.
        if code != Code::Ok && took <= self.usual_nanos.load(Relaxed) {
            return;
        }
        self.nanos.fetch_add(took, Relaxed);
        let calls = self.calls.fetch_add(1, Relaxed) + 1;
        let ends_at = self.ends_at.load(Relaxed);
        let now = nanos(now);
        if now < ends_at || calls < WINDOW_CALLS_MIN {
            return;
        }
        // One call computes; what others add meanwhile is of this window or of the next.
        if self.ends_at.compare_exchange(ends_at, CLOSING, Relaxed, Relaxed).is_ok() {
            self.close(bounds);
            self.ends_at.store(now + nanos(WINDOW), Relaxed);
        }
    }

    #[cold]
    fn close(&self, bounds: (usize, usize)) {
        let (calls, total) = (self.calls.swap(0, Relaxed), self.nanos.swap(0, Relaxed));
        let in_flight_max = self.in_flight_max.swap(self.in_flight.load(Relaxed), Relaxed);
        let window = Window {
            mean: Duration::from_nanos(total / calls.max(1)),
            in_flight_max,
            refused: self.refused.swap(false, Relaxed),
        };
        let known = Gradient {
            usual: Duration::from_nanos(self.usual_nanos.load(Relaxed)),
            limit: self.limit(bounds),
            slow: self.slow.load(Relaxed),
            held_back: self.held_back.load(Relaxed),
            limit_after: self.limit_after.load(Relaxed),
        };
        let next = known.after(window, bounds);
        self.usual_nanos.store(nanos(next.usual), Relaxed);
        self.slow.store(next.slow, Relaxed);
        self.held_back.store(next.held_back, Relaxed);
        self.limit_after.store(next.limit_after, Relaxed);
        self.limit.store(next.limit, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Concurrency = Concurrency { calls_max: 100, adaptive: true, calls_min: 16 };

    fn get() -> &'static Method {
        METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink")
    }

    /// How many calls are let in that don't end.
    fn let_in(limiter: &Limiter, criticality: Criticality, held: &mut Vec<Permit>) -> usize {
        let before = held.len();
        held.extend((0..200).map_while(|_| limiter.admit(get(), criticality, &POLICY).ok()));
        held.len() - before
    }

    #[test]
    fn the_least_critical_is_refused_first_and_what_ends_makes_room() {
        let (limiter, mut held) = (Limiter::new(), Vec::new());
        assert_eq!(let_in(&limiter, Criticality::Sheddable, &mut held), 50);
        assert_eq!(let_in(&limiter, Criticality::Normal, &mut held), 40);
        assert_eq!(let_in(&limiter, Criticality::Sheddable, &mut held), 0);
        assert_eq!(let_in(&limiter, Criticality::Critical, &mut held), 10);
        let shed = limiter.admit(get(), Criticality::Critical, &POLICY).unwrap_err();
        assert_eq!(shed, Shed { in_flight: 100, limit: 100 });
        held.truncate(95);
        assert_eq!(let_in(&limiter, Criticality::Normal, &mut held), 0);
        assert_eq!(let_in(&limiter, Criticality::Critical, &mut held), 5);
        held.clear();
        assert_eq!(limiter.in_flight(), (0, 0));
    }

    #[test]
    fn a_limit_of_one_lets_one_in_whatever_it_matters() {
        let policy = Concurrency { calls_max: 1, adaptive: true, calls_min: 1 };
        for criticality in [Criticality::Sheddable, Criticality::Normal, Criticality::Critical] {
            let limiter = Limiter::new();
            let _one = limiter.admit(get(), criticality, &policy).unwrap();
            assert!(limiter.admit(get(), Criticality::Critical, &policy).is_err());
        }
    }

    #[test]
    fn streams_take_nothing_from_calls() {
        let limiter = Limiter::new();
        let stream = METHODS.of_path("/test.v1.Chat/Chat");
        let streams: Vec<_> = (0..500)
            .map(|_| limiter.admit(stream, Criticality::Normal, &POLICY).unwrap())
            .collect();
        assert_eq!(let_in(&limiter, Criticality::Critical, &mut Vec::new()), 100);
        assert_eq!(limiter.in_flight().1, streams.len());
    }

    #[test]
    fn methods_do_not_pay_for_each_other_but_share_the_maximum() {
        let limiter = Limiter::new();
        let create = METHODS.of_path("/linkmesh.links.v1.LinksService/CreateLink");
        limiter.0.methods[get().index.unwrap()].limit.store(16, Relaxed);
        let mut held = Vec::new();
        assert_eq!(let_in(&limiter, Criticality::Critical, &mut held), 16);
        let created = (0..200)
            .map_while(|_| limiter.admit(create, Criticality::Critical, &POLICY).ok())
            .collect::<Vec<_>>();
        assert_eq!(created.len(), 84);
    }

    #[test]
    fn what_fails_fast_is_not_taken_for_a_fast_method() {
        let limiter = Limiter::new();
        let mut at = Duration::ZERO;
        let mut call = |code, took| {
            at += Duration::from_millis(20);
            let permit = limiter.admit(get(), Criticality::Normal, &POLICY).unwrap();
            permit.finish(code, took, at);
            limiter.0.methods[get().index.unwrap()].usual_nanos.load(Relaxed)
        };
        let usual = (0..100).map(|_| call(Code::Ok, Duration::from_millis(10))).last().unwrap();
        assert_eq!(usual, 10_000_000);
        let after = (0..100).map(|_| call(Code::Internal, Duration::ZERO)).last().unwrap();
        assert_eq!(after, usual);
    }
}
