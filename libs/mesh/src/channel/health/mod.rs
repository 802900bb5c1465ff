//! How an endpoint fares, and whether it is used: counted call by call, with atomics alone.
//!
//! What counts against it is its own fault only ([`Verdict`]). Enough failures open its breaker; the comparison with the others
//! ([`outliers`]) may eject it.

mod breaker;
pub(super) mod outliers;
mod window;

pub(super) use window::Counts;

use super::clock::Tick;
use crate::policy;
use crate::policy::Policy;
use arc_swap::ArcSwap;
use breaker::Breaker;
use breaker::State;
use rand::RngExt as _;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Code;
use window::Window;

/// An endpoint's failures are more than usual above this multiple of the others' share.
const USUAL_FACTOR: f32 = 2.0;

/// What a code says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did its part, whatever the caller was told.
    Good,
    /// It could not do its part.
    Failed,
    /// It would not, for now: no failure, but others have more room.
    Shed,
}

/// How an endpoint fares.
#[derive(Debug, Default)]
pub(super) struct Health {
    window: Window,
    /// Failures since the last success.
    consecutive: AtomicU32,
    breaker: Breaker,
    ejected: AtomicBool,
    ejected_until: AtomicU32,
    /// Refusals for want of room, which most endpoints never have.
    sheds: OnceLock<Box<Window>>,
    /// The share of failures and refusals among the other endpoints' calls of late, an `f32`'s bits.
    others_failed: AtomicU32,
}

/// Whether an endpoint may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Healthy,
    /// Out of use for this long; zero: it may be probed.
    Unhealthy(Duration),
    Ejected(Duration),
}

impl Verdict {
    /// Never the caller's faults, which Linkerd counts some of.
    pub(super) fn of(code: Code) -> Self {
        match code {
            Code::Unavailable | Code::Internal | Code::DataLoss | Code::DeadlineExceeded => {
                Self::Failed
            }
            Code::ResourceExhausted => Self::Shed,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Good,
        }
    }
}

impl Health {
    /// A call went well. Returns whether the endpoint's standing changed.
    pub(super) fn succeeded(&self, policy: &ArcSwap<Policy>, now: Tick) -> bool {
        let second = now.second();
        self.window.count(second, false);
        if self.consecutive.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.consecutive.store(0, Ordering::Relaxed);
        // It may be this call that makes them enough to judge.
        let policy = &policy.load().health;
        self.is_poor(policy, second) && self.trip(policy, now)
    }

    /// A call failed. Returns whether the endpoint's standing changed.
    pub(super) fn failed(&self, policy: &ArcSwap<Policy>, now: Tick) -> bool {
        let second = now.second();
        self.window.count(second, true);
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let policy = &policy.load().health;
        let in_a_row = policy.consecutive_failures.is_some_and(|max| consecutive >= max);
        (in_a_row || self.is_poor(policy, second)) && self.trip(policy, now)
    }

    /// A call was refused for want of room: it counts as made, and the endpoint is not to blame.
    pub(super) fn shed(&self, now: Tick) {
        self.window.count(now.second(), false);
        self.sheds.get_or_init(Box::default).count(now.second(), true);
    }

    /// How the one call of a probation went.
    pub(super) fn probed(&self, verdict: Option<Verdict>, policy: &ArcSwap<Policy>, now: Tick) {
        match verdict {
            None => self.breaker.abandon_probe(now.after(policy.load().health.backoff.0)),
            Some(Verdict::Good) => {
                self.consecutive.store(0, Ordering::Relaxed);
                self.window.clear();
                self.breaker.heal();
            }
            // A probe that is refused for want of room is a failed one: the endpoint is not ready for more.
            Some(Verdict::Failed | Verdict::Shed) => {
                let policy = &policy.load().health;
                self.breaker.fail_probe(now, |step| wait(policy, step));
            }
        }
    }

    /// Claims the one call of a probation, if it is time.
    pub(super) fn begin_probe(&self, now: Tick) -> bool {
        self.breaker.probe(now)
    }

    /// Another process answers now: its failures are not this one's, though it must show that it is better.
    pub(super) fn reset(&self, now: Tick) {
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
        self.breaker.hasten(now);
    }

    pub(super) fn standing(&self, now: Tick) -> Standing {
        let left = |until: Tick| Duration::from_millis(u64::from(now.until(until)));
        match self.breaker.state() {
            // Nobody may probe it before the one that is under way has ended, or has taken too long.
            State::Open { until, .. } | State::Probing { until, .. } => {
                Standing::Unhealthy(left(until))
            }
            State::Shut if self.ejected.load(Ordering::Relaxed) => {
                Standing::Ejected(left(Tick(self.ejected_until.load(Ordering::Relaxed))))
            }
            State::Shut => Standing::Healthy,
        }
    }

    /// Takes it out of use until the comparison says otherwise, which is to be expected at `until`. Returns whether it was not
    /// before.
    pub(super) fn eject(&self, until: Tick) -> bool {
        self.ejected_until.store(until.0, Ordering::Relaxed);
        !self.ejected.swap(true, Ordering::Relaxed)
    }

    /// Returns whether it was ejected.
    pub(super) fn readmit(&self) -> bool {
        self.ejected.swap(false, Ordering::Relaxed)
    }

    /// Its calls of the last ten seconds.
    pub(super) fn recent(&self, now: Tick) -> Counts {
        self.window.sum(now.second())
    }

    /// Whether it was called of late and failed each time, as one does that dies of every call and is started again at once.
    pub(super) fn fails_always(&self, now: Tick) -> bool {
        let Counts { calls, failures } = self.recent(now);
        calls > 0 && failures >= calls
    }

    /// Its calls in the whole seconds after `harvested` that have passed; `harvested` is then the last of them.
    pub(super) fn harvest(&self, harvested: &mut u32, now: Tick) -> Counts {
        let Some(last) = now.second().checked_sub(1) else { return Counts::default() };
        if last + 1 < *harvested {
            // The ticks have begun anew, after 49 days.
            *harvested = 0;
        }
        let first = last.saturating_sub(window::HARVEST_SECONDS_MAX - 1).max(*harvested + 1);
        *harvested = last.max(*harvested);
        if first > last { Counts::default() } else { self.window.between(first, last) }
    }

    /// Its calls of the last ten seconds, with refusals for want of room among the failures.
    pub(super) fn recent_with_sheds(&self, now: Tick) -> Counts {
        let mut counts = self.recent(now);
        counts.failures += self.sheds_in(now.second().saturating_sub(window::SECONDS - 1), now);
        counts
    }

    /// Its calls of the last whole second, and the refusals among them.
    pub(super) fn last_second(&self, now: Tick) -> Counts {
        let Some(last) = now.second().checked_sub(1) else { return Counts::default() };
        let counts = self.window.between(last, last);
        let sheds = self.sheds.get().map_or(0, |sheds| sheds.between(last, last).calls);
        Counts { calls: counts.calls, failures: sheds }
    }

    fn sheds_in(&self, first: u32, now: Tick) -> u64 {
        self.sheds.get().map_or(0, |sheds| sheds.between(first, now.second()).calls)
    }

    /// Takes over how the others fare.
    pub(super) fn set_others_failed(&self, share: f32) {
        self.others_failed.store(share.to_bits(), Ordering::Relaxed);
    }

    /// By how much its failures and refusals of late exceed what is usual: 0 to 1. Where all fail alike, none is worse than another.
    pub(super) fn excess(&self, now: Tick) -> f32 {
        let others = f32::from_bits(self.others_failed.load(Ordering::Relaxed));
        (self.recent_with_sheds(now).failed() - USUAL_FACTOR * others).clamp(0.0, 1.0)
    }

    fn is_poor(&self, policy: &policy::Health, second: u32) -> bool {
        let Some(percent_min) = policy.success_percent_min else { return false };
        let Counts { calls, failures } = self.window.sum(second);
        let successes = calls.saturating_sub(failures);
        calls >= u64::from(policy.success_calls_min)
            && successes * 100 < calls * u64::from(percent_min)
    }

    fn trip(&self, policy: &policy::Health, now: Tick) -> bool {
        self.breaker.trip(now.after(wait(policy, 0)))
    }
}

fn wait(policy: &policy::Health, step: u32) -> Duration {
    breaker::wait(policy.backoff, step, rand::rng().random())
}
