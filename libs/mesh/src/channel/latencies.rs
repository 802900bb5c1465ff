//! How long the calls of a method took of late, for hedges: a histogram of the last 10 to 20 s, without a lock.
//!
//! Only routes that hedge at a percentile keep it. What a hedge cut short counts with the time that it had taken: it is longer than
//! the percentile either way, so cutting short does not pull the percentile down.

use crate::methods::METHODS;
use crate::methods::Method;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long a window is; the one that fills and the one before count.
const WINDOW: Duration = Duration::from_secs(10);
/// How many calls it takes for a percentile to mean something.
const CALLS_MIN: u64 = 20;
/// Each bound is an eighth of an octave (9 %) above the one before: 64 us to 67 s.
const BUCKETS: usize = 8 * 20;
const MICROS_MIN: f64 = 64.0;

/// By method; those of methods that no route hedges stay empty.
#[derive(Debug)]
pub(super) struct Latencies {
    by_method: Box<[OnceLock<Box<Latency>>]>,
}

/// How long the calls of one method took.
#[derive(Debug)]
pub(super) struct Latency {
    started: Instant,
    windows: [Window; 2],
}

#[derive(Debug)]
struct Window {
    /// Which one it is, counted from the first.
    number: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { by_method: (0..METHODS.count()).map(|_| OnceLock::new()).collect() }
    }

    /// None for a method that is in no descriptor, which is never hedged.
    pub(super) fn of(&self, method: &Method, now: Instant) -> Option<&Latency> {
        let cell = self.by_method.get(method.index?)?;
        Some(cell.get_or_init(|| Box::new(Latency::new(now))))
    }
}

impl Latency {
    fn new(now: Instant) -> Self {
        let window =
            || Window { number: AtomicU64::new(0), counts: [const { AtomicU32::new(0) }; BUCKETS] };
        Self { started: now, windows: [window(), window()] }
    }

    pub(super) fn observe(&self, latency: Duration, now: Instant) {
        let number = self.number(now);
        let window = &self.windows[usize::from(number % 2 == 1)];
        let before = window.number.load(Ordering::Relaxed);
        // Whoever comes first in a window empties it. What others count at that moment may be lost: a few of thousands.
        if before < number
            && window
                .number
                .compare_exchange(before, number, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            for count in &window.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
        window.counts[bucket_of(latency)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time within which this percentage of the calls were done; none if there were too few to say.
    pub(super) fn percentile(&self, percentile: f64, now: Instant) -> Option<Duration> {
        let number = self.number(now);
        let recent = |window: &&Window| window.number.load(Ordering::Relaxed) + 1 >= number;
        let mut counts = [0_u64; BUCKETS];
        for window in self.windows.iter().filter(recent) {
            for (sum, count) in counts.iter_mut().zip(&window.counts) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
        let calls: u64 = counts.iter().sum();
        if calls < CALLS_MIN {
            return None;
        }
        let wanted = share_of(calls, percentile);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.map(upper_bound)
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / WINDOW.as_secs()
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage of a count"
)]
fn share_of(calls: u64, percentile: f64) -> u64 {
    ((calls as f64 * percentile / 100.0).ceil() as u64).clamp(1, calls)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least 0, and bounded after"
)]
fn bucket_of(latency: Duration) -> usize {
    let octaves = (latency.as_secs_f64() * 1e6 / MICROS_MIN).max(1.0).log2();
    ((octaves * 8.0).ceil() as usize).min(BUCKETS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "less than 160")]
fn upper_bound(bucket: usize) -> Duration {
    Duration::from_secs_f64(MICROS_MIN / 1e6 * (bucket as f64 / 8.0).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(latency: Option<Duration>) -> f64 {
        latency.unwrap().as_secs_f64() * 1e3
    }

    #[test]
    fn a_percentile_is_known_within_a_tenth_once_there_were_enough_calls() {
        let start = Instant::now();
        let latency = Latency::new(start);
        for millis in 1..20 {
            latency.observe(Duration::from_millis(millis), start);
        }
        assert_eq!(latency.percentile(95.0, start), None);
        for millis in 20..=1_000 {
            latency.observe(Duration::from_millis(millis), start);
        }
        for percentile in [50.0, 95.0, 99.0, 99.9] {
            let found = millis(latency.percentile(percentile, start));
            let exact = percentile * 10.0;
            assert!((exact..exact * 1.1).contains(&found), "{percentile}: {found} for {exact}");
        }
    }

    #[test]
    fn what_is_long_ago_no_longer_counts() {
        let start = Instant::now();
        let latency = Latency::new(start);
        let observe = |micros, now| {
            for _ in 0..100 {
                latency.observe(Duration::from_micros(micros), now);
            }
        };
        observe(500_000, start);
        assert!(millis(latency.percentile(50.0, start + WINDOW)) > 499.0);
        observe(1_000, start + WINDOW);
        observe(1_000, start + 2 * WINDOW);
        assert!(millis(latency.percentile(99.0, start + 2 * WINDOW)) < 1.1);
        assert_eq!(latency.percentile(99.0, start + 4 * WINDOW), None);
    }

    #[test]
    fn every_duration_has_a_bucket() {
        let start = Instant::now();
        let latency = Latency::new(start);
        for _ in 0..20 {
            latency.observe(Duration::ZERO, start);
        }
        assert_eq!(latency.percentile(50.0, start), Some(Duration::from_micros(64)));
        latency.observe(Duration::MAX, start);
        assert!(millis(latency.percentile(100.0, start)) > 60_000.0);
    }
}
