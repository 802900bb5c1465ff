//! How loaded an endpoint looks: the peak-EWMA of its response times, times the calls in flight.
//!
//! A slower response counts at once, a faster one little by little. A failure counts as a slow response, so that an endpoint
//! that fails fast never looks fast.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// What is assumed of an endpoint before its first response.
const LATENCY_DEFAULT: Duration = Duration::from_millis(30);
/// How long until what was seen counts for 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as, unless the server asked for longer.
pub(super) const FAILURE_PENALTY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Load {
    /// Ticks count from here.
    started: Instant,
    /// The EWMA in seconds (an `f32`'s bits) above the tick of its last change.
    ewma: AtomicU64,
    measured: AtomicBool,
    pending: AtomicU32,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            ewma: AtomicU64::new(pack(LATENCY_DEFAULT.as_secs_f32(), 0)),
            measured: AtomicBool::new(false),
            pending: AtomicU32::new(0),
        }
    }

    /// Forgets what was seen: another process answers now.
    pub(super) fn reset(&self, now: Instant) {
        let tick = self.tick(now);
        self.ewma.store(pack(LATENCY_DEFAULT.as_secs_f32(), tick), Ordering::Relaxed);
        self.measured.store(false, Ordering::Relaxed);
    }

    /// Takes a response time into account.
    pub(super) fn observe(&self, latency: Duration, now: Instant) {
        if !self.measured.load(Ordering::Relaxed) {
            self.measured.store(true, Ordering::Relaxed);
        }
        let tick = self.tick(now);
        let latency = latency.as_secs_f32();
        let mut before = self.ewma.load(Ordering::Relaxed);
        loop {
            let (ewma, last) = unpack(before);
            let kept = kept(tick, last);
            let after =
                if latency >= ewma { latency } else { ewma * kept + latency * (1.0 - kept) };
            match self.ewma.compare_exchange_weak(
                before,
                pack(after, tick),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// What it would cost to send one call more. What was seen long ago counts less, so that an endpoint that was slow is
    /// tried again.
    #[expect(clippy::cast_precision_loss, reason = "an estimate; calls in flight are few")]
    pub(super) fn cost(&self, now: Instant) -> f32 {
        let (ewma, last) = unpack(self.ewma.load(Ordering::Relaxed));
        ewma * kept(self.tick(now), last) * (self.pending() + 1) as f32
    }

    /// The EWMA as it was after the last response; none before the first.
    pub(super) fn latency(&self) -> Option<Duration> {
        let measured = self.measured.load(Ordering::Relaxed);
        measured.then(|| Duration::from_secs_f32(unpack(self.ewma.load(Ordering::Relaxed)).0))
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

    /// Milliseconds; they wrap after 49 days, which at worst makes an old value look fresh once.
    #[expect(clippy::cast_possible_truncation, reason = "wraps, see above")]
    fn tick(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.started).as_millis() as u32
    }
}

/// The share of an old value that is left.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn kept(tick: u32, last: u32) -> f32 {
    // A tick that seems to lie in the future was written by a call that took its time later; it is now.
    let past = tick.wrapping_sub(last);
    let past = if past > u32::MAX / 2 { 0 } else { past };
    (-(past as f32) / DECAY.as_millis() as f32).exp()
}

fn pack(seconds: f32, tick: u32) -> u64 {
    (u64::from(seconds.to_bits()) << 32) | u64::from(tick)
}

#[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_response_counts_at_once_and_a_fast_one_slowly() {
        let start = Instant::now();
        let load = Load::new(start);
        assert_eq!(load.latency(), None);
        load.observe(Duration::from_secs(1), start);
        assert_eq!(load.latency(), Some(Duration::from_secs(1)));
        let later = start + DECAY;
        load.observe(Duration::ZERO, later);
        let latency = load.latency().unwrap().as_secs_f32();
        assert!((0.36..0.38).contains(&latency), "{latency}");
    }

    #[test]
    fn an_endpoint_that_fails_fast_costs_more_than_a_busy_one() {
        let start = Instant::now();
        let (failing, busy) = (Load::new(start), Load::new(start));
        failing.observe(FAILURE_PENALTY, start);
        busy.observe(Duration::from_millis(100), start);
        for _ in 0..20 {
            busy.begin();
        }
        let later = start + Duration::from_secs(5);
        assert!(failing.cost(later) > busy.cost(later));
        assert_eq!(busy.pending(), 20);
    }

    #[test]
    fn what_is_not_called_is_tried_again() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(FAILURE_PENALTY, start);
        assert!(load.cost(start + Duration::from_secs(100)) < 0.001);
    }

    #[test]
    fn a_call_that_began_before_the_last_change_does_not_undo_it() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(Duration::from_millis(1), start + Duration::from_secs(1));
        let before = load.latency();
        load.observe(Duration::ZERO, start);
        assert_eq!(load.latency(), before);
    }
}
