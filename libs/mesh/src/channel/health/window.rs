//! How an endpoint's calls went over the last ten seconds, in exact buckets of a second each: an average that decays would miss
//! a tight burst (Linkerd's finding).

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// How many seconds count.
pub(super) const SECONDS: u32 = 10;
/// How many of the seconds before the current one can still be read: as many as there are buckets beside its own.
pub(super) const HARVEST_SECONDS_MAX: u32 = SECONDS - 1;

/// A bucket's second takes the upper 24 bits (194 days, then it wraps), its calls 20, its failures 20: more than a million
/// calls in a second don't go to one endpoint.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const SECOND_MASK: u32 = (1 << 24) - 1;

/// Calls, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
}

#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; SECONDS as usize]);

impl Counts {
    /// The share of the calls that failed; 0 without calls.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn failed(self) -> f32 {
        if self.calls == 0 { 0.0 } else { self.failures as f32 / self.calls as f32 }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
    }

    /// What is left without `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            failures: self.failures.saturating_sub(other.failures),
        }
    }
}

impl Window {
    /// Counts a call that ended in `second`.
    pub(super) fn count(&self, second: u32, failed: bool) {
        let bucket = self.bucket(second);
        let one = (1 << COUNT_BITS) | u64::from(failed);
        let before = bucket.load(Ordering::Relaxed);
        if second_of(before) == second & SECOND_MASK {
            // Another call may begin the next round of this bucket in between: then this one counts for that.
            bucket.fetch_add(one, Ordering::Relaxed);
            return;
        }
        let fresh = pack(second) | one;
        let swapped = bucket.compare_exchange(before, fresh, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_err() {
            bucket.fetch_add(one, Ordering::Relaxed);
        }
    }

    /// The ten seconds that end with `second`.
    pub(super) fn sum(&self, second: u32) -> Counts {
        self.between(second.saturating_sub(SECONDS - 1), second)
    }

    /// The seconds from `first` to `last`, of which at most ten can be known.
    pub(super) fn between(&self, first: u32, last: u32) -> Counts {
        let mut sum = Counts::default();
        for second in first.max(last.saturating_sub(SECONDS - 1))..=last {
            let bucket = self.bucket(second).load(Ordering::Relaxed);
            if second_of(bucket) == second & SECOND_MASK {
                sum.calls += (bucket >> COUNT_BITS) & COUNT_MASK;
                sum.failures += bucket & COUNT_MASK;
            }
        }
        sum
    }

    /// Forgets what was counted.
    pub(super) fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    fn bucket(&self, second: u32) -> &AtomicU64 {
        &self.0[(second % SECONDS) as usize]
    }
}

fn pack(second: u32) -> u64 {
    u64::from(second & SECOND_MASK) << (2 * COUNT_BITS)
}

fn second_of(bucket: u64) -> u32 {
    (bucket >> (2 * COUNT_BITS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_counts_for_ten() {
        let window = Window::default();
        for second in 0..30 {
            window.count(second, false);
            window.count(second, second % 2 == 0);
        }
        assert_eq!(window.sum(29), Counts { calls: 20, failures: 5 });
        assert_eq!(window.sum(33), Counts { calls: 12, failures: 3 });
        assert_eq!(window.between(28, 28), Counts { calls: 2, failures: 1 });
        assert_eq!(window.sum(39), Counts::default());
    }

    #[test]
    fn nothing_is_lost_when_many_count_at_once() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|call| window.count(7, call % 4 == 0)));
            }
        });
        assert_eq!(window.sum(7), Counts { calls: 40_000, failures: 10_000 });
    }

    #[test]
    fn a_million_calls_in_a_second_keep_to_their_bucket() {
        let window = Window::default();
        (0..1_000_000).for_each(|_| window.count(3, true));
        assert_eq!(window.sum(3), Counts { calls: 1_000_000, failures: 1_000_000 });
    }
}
