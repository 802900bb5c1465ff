//! How loaded an endpoint looks: the peak-EWMA of its response times and what its failures of late make of it, times the calls
//! in flight.
//!
//! A slower response counts at once, a faster one little by little. A failure is no response time: it stands beside them as a
//! penalty that ends when it says. Folded into the average, the 5 s of one failure would take more than a minute to decay to
//! the milliseconds that others need, and shun an endpoint for as long; forgotten sooner, a failing endpoint would look fast.

use super::clock::Tick;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is assumed of an endpoint before its first response, if nothing is known of the others (Linkerd's).
pub(super) const LATENCY_DEFAULT: Duration = Duration::from_millis(30);
/// How long until what was seen counts for 1/e (Linkerd's).
const DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as, and for how long, unless the server asked for longer (Linkerd's).
const PENALTY: Duration = Duration::from_secs(5);
/// The longest penalty of failures in a row, and of what a server asks for (Linkerd's limit for Retry-After).
const PENALTY_MAX: Duration = Duration::from_secs(60);
const PUSHBACK_MAX: Duration = Duration::from_secs(300);
/// How often a penalty doubles: 5, 10, 20, 40, 60 s.
const STRIKES_MAX: u32 = 4;

#[derive(Debug)]
pub(super) struct Load {
    /// The EWMA in seconds (an `f32`'s bits) above the tick of its last change.
    ewma: AtomicU64,
    /// The share of its calls that are expected to fail (an `f32`'s bits) above the tick until which that is so; 0: none.
    penalty: AtomicU64,
    /// Penalties since the last success, each given when the one before had ended.
    strikes: AtomicU32,
    measured: AtomicBool,
    pending: AtomicU32,
}

impl Load {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            ewma: AtomicU64::new(pack(LATENCY_DEFAULT.as_secs_f32(), now)),
            penalty: AtomicU64::new(0),
            strikes: AtomicU32::new(0),
            measured: AtomicBool::new(false),
            pending: AtomicU32::new(0),
        }
    }

    /// Forgets what was seen: another process answers now. It counts as what is usual among the others, so that it is neither
    /// shunned nor overrun.
    pub(super) fn reset(&self, usual: Duration, now: Tick) {
        self.ewma.store(pack(usual.as_secs_f32(), now), Ordering::Relaxed);
        self.measured.store(false, Ordering::Relaxed);
        self.forgive();
    }

    /// Takes a response time into account.
    pub(super) fn observe(&self, latency: Duration, now: Tick) {
        self.measure();
        let latency = latency.as_secs_f32();
        self.change(now, |ewma, kept| {
            Some(if latency >= ewma { latency } else { ewma * kept + latency * (1.0 - kept) })
        });
    }

    /// Takes into account that a response would have taken longer than this.
    pub(super) fn observe_at_least(&self, latency: Duration, now: Tick) {
        let latency = latency.as_secs_f32();
        self.change(now, |ewma, kept| {
            let is_slow = latency > ewma * kept;
            if is_slow {
                self.measure();
            }
            is_slow.then_some(latency)
        });
    }

    fn measure(&self) {
        if !self.measured.load(Ordering::Relaxed) {
            self.measured.store(true, Ordering::Relaxed);
        }
    }

    fn change(&self, now: Tick, after: impl Fn(f32, f32) -> Option<f32>) {
        let mut before = self.ewma.load(Ordering::Relaxed);
        loop {
            let (ewma, last) = unpack(before);
            let Some(after) = after(ewma, kept(now, last)) else { return };
            match self.ewma.compare_exchange_weak(
                before,
                pack(after, now),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// Calls are expected to fail with this probability, for [`PENALTY`]: longer if they still do after that, or if the server asked
    /// for longer.
    pub(super) fn punish(&self, share: f32, pushback: Option<Duration>, now: Tick) {
        let (before, until) = unpack(self.penalty.load(Ordering::Relaxed));
        let in_force = (1..=PUSHBACK_MAX.as_millis()).contains(&u128::from(now.until(until)));
        let strikes = if in_force {
            self.strikes.load(Ordering::Relaxed).saturating_sub(1)
        } else {
            self.strikes.fetch_add(1, Ordering::Relaxed)
        };
        let usual = PENALTY.saturating_mul(1 << strikes.min(STRIKES_MAX)).min(PENALTY_MAX);
        let wait = usual.max(pushback.unwrap_or_default().min(PUSHBACK_MAX));
        let share = if in_force { share.max(before) } else { share };
        let until = if in_force && now.until(until) > now.until(now.after(wait)) {
            until
        } else {
            now.after(wait)
        };
        self.penalty.store(pack(share, until), Ordering::Relaxed);
    }

    /// It answers again: the next penalty is a first one.
    pub(super) fn succeeded(&self) {
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// Ends the penalty.
    pub(super) fn forgive(&self) {
        self.penalty.store(0, Ordering::Relaxed);
        self.strikes.store(0, Ordering::Relaxed);
    }

    /// What it would cost to send one call more, to an endpoint that has the `slowness` by which calls in flight count there. What
    /// was seen long ago counts less, so that an endpoint that was slow is tried again.
    #[expect(clippy::cast_precision_loss, reason = "an estimate; calls in flight are few")]
    pub(super) fn cost(&self, slowness: f32, now: Tick) -> f32 {
        let (ewma, last) = unpack(self.ewma.load(Ordering::Relaxed));
        let expected = ewma * kept(now, last) + self.penalty(now);
        expected * (self.pending() as f32 * slowness + 1.0)
    }

    /// The calls in flight, by weight. Who is expected to fail is as busy as one with a call for each millisecond of loss.
    #[expect(clippy::cast_precision_loss, reason = "an estimate; calls in flight are few")]
    pub(super) fn busyness(&self, slowness: f32, now: Tick) -> f32 {
        self.pending() as f32 * slowness + 1.0 + self.penalty(now) * 1_000.0
    }

    /// The expected loss in seconds: a call that fails is as good as one that waits until the penalty has ended.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn penalty(&self, now: Tick) -> f32 {
        let packed = self.penalty.load(Ordering::Relaxed);
        if packed == 0 {
            return 0.0;
        }
        let (share, until) = unpack(packed);
        let left = now.until(until);
        // Ticks wrap after 49 days: what lies further ahead than any penalty lies behind.
        if u128::from(left) > PUSHBACK_MAX.as_millis() {
            return 0.0;
        }
        share * left as f32 / 1_000.0
    }

    /// The EWMA as it was after the last response; none before the first.
    pub(super) fn latency(&self) -> Option<Duration> {
        let measured = self.measured.load(Ordering::Relaxed);
        measured.then(|| Duration::from_secs_f32(unpack(self.ewma.load(Ordering::Relaxed)).0))
    }

    /// Milliseconds since the EWMA last changed.
    pub(super) fn silent_for(&self, now: Tick) -> Duration {
        Duration::from_millis(u64::from(now.since(unpack(self.ewma.load(Ordering::Relaxed)).1)))
    }

    pub(super) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The share of an old value that is left.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn kept(now: Tick, last: Tick) -> f32 {
    match now.since(last) {
        0 => 1.0,
        past => (-(past as f32) / DECAY.as_millis() as f32).exp(),
    }
}

fn pack(value: f32, tick: Tick) -> u64 {
    (u64::from(value.to_bits()) << 32) | u64::from(tick.0)
}

#[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
fn unpack(packed: u64) -> (f32, Tick) {
    (f32::from_bits((packed >> 32) as u32), Tick(packed as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn at(seconds: f32) -> Tick {
        Tick(0).after(Duration::from_secs_f32(seconds))
    }

    #[test]
    fn a_slow_response_counts_at_once_and_a_fast_one_slowly() {
        let load = Load::new(at(0.0));
        assert_eq!(load.latency(), None);
        load.observe(Duration::from_secs(1), at(0.0));
        assert_eq!(load.latency(), Some(Duration::from_secs(1)));
        load.observe(Duration::ZERO, at(10.0));
        let latency = load.latency().unwrap().as_secs_f32();
        assert!((0.36..0.38).contains(&latency), "{latency}");
    }

    #[test]
    fn an_endpoint_that_fails_fast_costs_more_than_a_busy_one() {
        let (failing, busy) = (Load::new(at(0.0)), Load::new(at(0.0)));
        failing.observe(MILLISECOND, at(0.0));
        failing.punish(1.0, None, at(0.0));
        busy.observe(Duration::from_millis(10), at(0.0));
        (0..20).for_each(|_| busy.begin());
        assert!(failing.cost(1.0, at(4.0)) > busy.cost(1.0, at(4.0)));
        assert_eq!(busy.pending(), 20);
    }

    #[test]
    fn one_failure_shuns_an_endpoint_for_five_seconds_and_not_for_eighty() {
        let (failed, other) = (Load::new(at(0.0)), Load::new(at(0.0)));
        for load in [&failed, &other] {
            load.reset(MILLISECOND, at(0.0));
        }
        failed.punish(1.0, None, at(0.0));
        for tenths in 0..120_u8 {
            let now = at(f32::from(tenths) / 10.0);
            other.observe(MILLISECOND, now);
            let shunned = failed.cost(1.0, now) > other.cost(1.0, now);
            assert_eq!(shunned, tenths < 50, "after {tenths} tenths of a second");
        }
    }

    #[test]
    fn a_rare_failure_among_many_calls_hardly_counts() {
        let load = Load::new(at(0.0));
        load.reset(Duration::from_millis(10), at(0.0));
        load.punish(0.001, None, at(0.0));
        assert!(load.cost(1.0, at(0.0)) < 0.016);
    }

    #[test]
    fn an_endpoint_that_fails_each_time_it_is_tried_is_tried_less_and_less() {
        let load = Load::new(at(0.0));
        let mut now = 0.0;
        for expected in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] {
            load.punish(1.0, None, at(now));
            load.punish(1.0, None, at(now));
            assert!(load.penalty(at(now + expected - 0.1)) > 0.0);
            assert!(load.penalty(at(now + expected)) < f32::EPSILON);
            now += expected;
        }
        load.succeeded();
        load.punish(1.0, None, at(now));
        assert!(load.penalty(at(now + 5.0)) < f32::EPSILON);
    }

    #[test]
    fn what_a_server_asks_for_is_kept_to_up_to_a_limit() {
        let load = Load::new(at(0.0));
        load.punish(1.0, Some(Duration::from_secs(30)), at(0.0));
        load.punish(0.1, None, at(1.0));
        assert!(load.penalty(at(29.0)) > 0.9, "a later failure does not shorten it");
        assert!(load.penalty(at(30.0)) < f32::EPSILON);
        let load = Load::new(at(0.0));
        load.punish(1.0, Some(Duration::from_secs(3_600)), at(0.0));
        assert!(load.penalty(at(300.0)) < f32::EPSILON);
    }

    #[test]
    fn what_is_not_called_is_tried_again() {
        let load = Load::new(at(0.0));
        load.observe(Duration::from_secs(1), at(0.0));
        assert!(load.cost(1.0, at(100.0)) < 0.001);
    }

    #[test]
    fn a_call_that_was_given_up_counts_only_if_it_was_slow() {
        let load = Load::new(at(0.0));
        load.observe(Duration::from_secs(1), at(0.0));
        load.observe_at_least(MILLISECOND, at(1.0));
        assert_eq!(load.latency(), Some(Duration::from_secs(1)));
        load.observe_at_least(Duration::from_secs(2), at(1.0));
        assert_eq!(load.latency(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn calls_in_flight_count_for_less_where_more_is_possible() {
        let load = Load::new(at(0.0));
        let idle = (load.cost(1.0, at(0.0)), load.cost(10.0, at(0.0)));
        assert!((idle.0 - idle.1).abs() < f32::EPSILON, "an idle one is an idle one");
        (0..10).for_each(|_| load.begin());
        assert!(load.cost(0.1, at(0.0)) < load.cost(1.0, at(0.0)));
    }

    #[test]
    fn a_call_that_began_before_the_last_change_does_not_undo_it() {
        let load = Load::new(at(0.0));
        load.observe(MILLISECOND, at(1.0));
        let before = load.latency();
        load.observe(Duration::ZERO, at(0.0));
        assert_eq!(load.latency(), before);
    }
}
