//! When an endpoint is out of use: shut while it fares well, open for a while after failures, then a probation of one call.
//!
//! One word of state: whoever changes it does so by comparing with what it saw, so two failures at once trip it once, and of
//! many calls that would be the probe one is.

use super::super::clock::Tick;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a probe may stay unanswered before another call may be one: a stream need never end.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(10);
/// The longest backoff is reached long before.
const STEP_MAX: u32 = 30;

/// Whether an endpoint is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Shut,
    /// Out of use until this tick, having been so this many times in a row before.
    Open {
        until: Tick,
        step: u32,
    },
    /// One call is under way to see whether it may be used again; from this tick on another one may be.
    Probing {
        until: Tick,
        step: u32,
    },
}

#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU64);

impl Breaker {
    pub(super) fn state(&self) -> State {
        unpack(self.0.load(Ordering::Relaxed))
    }

    /// Opens it until then; false if it was not shut.
    pub(super) fn trip(&self, until: Tick) -> bool {
        self.change(State::Shut, State::Open { until, step: 0 })
    }

    /// Begins the probation if its time has come; only one caller is told so.
    pub(super) fn probe(&self, now: Tick) -> bool {
        let before = self.state();
        let (State::Open { until, step } | State::Probing { until, step }) = before else {
            return false;
        };
        let probing = State::Probing { until: now.after(PROBE_WAIT_MAX), step };
        now.until(until) == 0 && self.change(before, probing)
    }

    /// The probe went well.
    pub(super) fn heal(&self) -> bool {
        let before = self.state();
        matches!(before, State::Probing { .. }) && self.change(before, State::Shut)
    }

    /// The probe failed: out of use again, for `wait` of the times that this happened in a row.
    pub(super) fn fail_probe(&self, now: Tick, wait: impl FnOnce(u32) -> Duration) {
        let before = self.state();
        if let State::Probing { step, .. } = before {
            let step = (step + 1).min(STEP_MAX);
            self.change(before, State::Open { until: now.after(wait(step)), step });
        }
    }

    /// Nobody knows how the probe went: another one may follow at `until`. Not at once: of an endpoint that never answers each
    /// caller gives up before it could tell.
    pub(super) fn abandon_probe(&self, until: Tick) {
        let before = self.state();
        if let State::Probing { step, .. } = before {
            self.change(before, State::Open { until, step });
        }
    }

    /// Lets the probation begin now.
    pub(super) fn hasten(&self, now: Tick) {
        let before = self.state();
        if let State::Open { step, .. } = before {
            self.change(before, State::Open { until: now, step });
        }
    }

    fn change(&self, before: State, after: State) -> bool {
        let (before, after) = (pack(before), pack(after));
        self.0.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The wait after `step` earlier ones in a row: it doubles, up to a maximum, and up to half of it is added at random
/// (Linkerd's jitter of 0.5), so that callers don't come back together. `random` is 0 to 1.
pub(super) fn wait(bounds: (Duration, Duration), step: u32, random: f64) -> Duration {
    let (min, max) = bounds;
    let wait = min.saturating_mul(1 << step.min(STEP_MAX)).min(max);
    wait + wait.mul_f64(0.5 * random)
}

fn pack(state: State) -> u64 {
    match state {
        State::Shut => 0,
        State::Open { until, step } => (1 << 62) | (u64::from(step) << 32) | u64::from(until.0),
        State::Probing { until, step } => (2 << 62) | (u64::from(step) << 32) | u64::from(until.0),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes the parts apart")]
fn unpack(packed: u64) -> State {
    let step = ((packed >> 32) & 0xff) as u32;
    match packed >> 62 {
        0 => State::Shut,
        1 => State::Open { until: Tick(packed as u32), step },
        _ => State::Probing { until: Tick(packed as u32), step },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn a_wait_doubles_up_to_its_maximum_and_half_of_it_is_added_at_random() {
        let seconds = |step, random| wait(BOUNDS, step, random).as_secs_f64();
        for (step, expected) in [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (30, 60.0)] {
            assert!((seconds(step, 0.0) - expected).abs() < 1e-9);
            assert!((seconds(step, 1.0) - expected * 1.5).abs() < 1e-9);
        }
    }

    #[test]
    fn it_opens_once_and_its_probe_is_one() {
        let breaker = Breaker::default();
        assert!(!breaker.probe(Tick(0)) && !breaker.heal());
        assert!(breaker.trip(Tick(1_100)));
        assert!(!breaker.trip(Tick(9_000)), "it is open already");
        assert!(!breaker.probe(Tick(1_099)));
        assert!(breaker.probe(Tick(1_100)));
        assert!(!breaker.probe(Tick(1_100)), "one is under way");
        breaker.fail_probe(Tick(1_200), |step| Duration::from_secs(1 << step));
        assert_eq!(breaker.state(), State::Open { until: Tick(3_200), step: 1 });
        assert!(breaker.probe(Tick(3_200)));
        breaker.abandon_probe(Tick(3_300));
        assert!(breaker.probe(Tick(3_300)));
        assert!(breaker.heal());
        assert_eq!(breaker.state(), State::Shut);
    }

    #[test]
    fn a_probe_that_never_ends_does_not_keep_it_out_of_use_for_ever() {
        let breaker = Breaker::default();
        assert!(breaker.trip(Tick(0)) && breaker.probe(Tick(0)));
        assert!(!breaker.probe(Tick(9_999)));
        assert!(breaker.probe(Tick(10_000)));
        assert!(!breaker.probe(Tick(10_000)), "one is under way");
    }
}
