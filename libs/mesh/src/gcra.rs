//! The generic cell rate algorithm: a token bucket that is one number, the theoretical arrival time (TAT) of the next call. It is
//! taken from with one compare-and-swap, without a lock.
//!
//! Public because the edge limits its clients by the same arithmetic, in buckets of its own.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Ticks in a nanosecond. Fine enough for the rounding of the interval to be below 0.7 % at 10⁹ calls a second and below 0.01 %
/// at 10⁶; coarse enough for 36 years in 64 bits.
const TICKS_PER_NANO: u128 = 16;

/// A rate: so many calls in a time, so many at once. Never more than the burst and what the rate allows, in any interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Ticks between two calls at the full rate.
    interval: u64,
    /// How many ticks calls may come early: those of all but one of a burst.
    tolerance: u64,
}

/// How full one bucket is. A new one is full.
#[derive(Debug, Default)]
pub struct Bucket {
    /// In ticks; what lies in the past counts as now.
    arrival: AtomicU64,
}

impl Gcra {
    /// So many calls in a time, of which so many at once.
    ///
    /// # Panics
    /// If that lets nothing through.
    #[must_use]
    pub fn new(calls: u32, per: Duration, burst: u32) -> Self {
        assert!(calls >= 1 && burst >= 1 && !per.is_zero(), "a rate that lets something through");
        // Upwards, so that never more is let in than was said.
        let interval = ticks(per).div_ceil(u64::from(calls));
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst) - 1) }
    }

    /// The same by a clock that counts in so many ticks, with as large a burst: the interval is a multiple of that, upwards.
    #[must_use]
    pub fn by(&self, ticks: u64) -> Self {
        let interval = self.interval.div_ceil(ticks).saturating_mul(ticks);
        Self { interval, tolerance: (self.tolerance / self.interval).saturating_mul(interval) }
    }

    /// What is left to each of `shares` that split the rate without a word between them: whole calls, rounded down, so that together
    /// they never let more through than the whole would. Where there are more shares than calls in the burst each has one all
    /// the same, or it would let nothing through ever.
    #[must_use]
    pub fn share(&self, shares: u32) -> Self {
        let shares = u64::from(shares.max(1));
        let calls = self.tolerance / self.interval + 1;
        let of_each = (calls / shares).max(1);
        let whole = self.interval.saturating_mul(calls);
        let interval = whole.div_ceil(of_each).max(self.interval.saturating_mul(shares));
        Self { interval, tolerance: interval.saturating_mul(of_each - 1) }
    }

    /// How many calls fit at once into a bucket whose next arrival lies so far ahead.
    #[must_use]
    pub fn room(&self, ahead: Duration) -> u64 {
        let burst = self.tolerance.saturating_add(self.interval);
        burst.saturating_sub(ticks(ahead)) / self.interval
    }

    /// The arrival time after `calls` more (at most the burst, or they never fit), all in [`ticks`]; or how long until they fit.
    ///
    /// # Errors
    /// The wait.
    pub fn next(&self, arrival: u64, now: u64, calls: u32) -> Result<u64, Duration> {
        let cost = self.interval.saturating_mul(u64::from(calls));
        let next = arrival.max(now).saturating_add(cost);
        let early = next.saturating_sub(self.interval).saturating_sub(now);
        if early > self.tolerance { Err(duration(early - self.tolerance)) } else { Ok(next) }
    }

    /// The arrival time without one call that was taken and not made.
    #[must_use]
    pub fn previous(&self, arrival: u64) -> u64 {
        arrival.saturating_sub(self.interval)
    }

    /// Takes `calls` (at most the burst, or they never fit) from a bucket, at a time since anything that stays the same; or says
    /// how long until they fit.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&self, bucket: &Bucket, now: Duration, calls: u32) -> Result<(), Duration> {
        let now = ticks(now);
        let mut arrival = bucket.arrival.load(Ordering::Relaxed);
        loop {
            let next = self.next(arrival, now, calls)?;
            match bucket.arrival.compare_exchange_weak(
                arrival,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => arrival = seen,
            }
        }
    }

    /// Gives back one call that was taken and not made.
    pub fn give_back(&self, bucket: &Bucket) {
        // The bucket's time is at least the interval that was added to it: nothing else is ever taken off.
        bucket.arrival.fetch_sub(self.interval, Ordering::Relaxed);
    }
}

/// A time as the arithmetic counts it.
#[must_use]
pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * TICKS_PER_NANO).unwrap_or(u64::MAX)
}

/// So many ticks as a time. Upwards: who waits that long is let in.
#[must_use]
pub fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(u128::from(ticks).div_ceil(TICKS_PER_NANO).try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A token bucket as the books have it, in whole ticks: `burst` intervals deep, filled by one tick a tick.
    struct Exact {
        depth: u128,
        level: u128,
        at: u128,
    }

    impl Exact {
        fn take(&mut self, interval: u128, now: u128) -> bool {
            self.level = self.depth.min(self.level + now - self.at);
            self.at = now;
            let fits = self.level >= interval;
            if fits {
                self.level -= interval;
            }
            fits
        }
    }

    /// Whether in any interval at most the burst and what its rate allows was taken.
    fn is_within(taken: &[Duration], calls: u32, burst: u32) -> bool {
        let allowed = |time: Duration| {
            u128::from(burst) + time.as_nanos() * u128::from(calls) / 1_000_000_000
        };
        let from = |first: usize| {
            let later = taken[first..].iter().zip(1_u128..);
            later.map(move |(to, count)| (*to - taken[first], count))
        };
        (0..taken.len()).flat_map(from).all(|(time, count)| count <= allowed(time))
    }

    proptest! {
        #[test]
        fn it_decides_as_an_exact_token_bucket_does(
            calls in 1_u32..=1_000_000_000,
            per_nanos in 1_000_000_000_u64..=3_600_000_000_000,
            burst in 1_u32..=1_000,
            // In sixteenths of the interval between two calls, so that both outcomes are common whatever the rate is.
            steps in prop::collection::vec(prop_oneof![Just(0_u64), 0_u64..=40, 0_u64..=40_000], 1..400),
        ) {
            let gcra = Gcra::new(calls, Duration::from_nanos(per_nanos), burst);
            let interval = u128::from(gcra.interval);
            let depth = interval * u128::from(burst);
            let mut exact = Exact { depth, level: depth, at: 0 };
            let (bucket, mut now) = (Bucket::default(), Duration::ZERO);
            for step in steps {
                now += duration(gcra.interval.saturating_mul(step) / 16);
                let taken = gcra.take(&bucket, now, 1);
                prop_assert_eq!(taken.is_ok(), exact.take(interval, u128::from(ticks(now))));
                if let Err(wait) = taken {
                    let at = |now| {
                        let arrival = bucket.arrival.load(Ordering::Relaxed).into();
                        gcra.take(&Bucket { arrival }, now, 1)
                    };
                    prop_assert!(at(now + wait).is_ok());
                    prop_assert!(at(now + wait.saturating_sub(Duration::from_nanos(1))).is_err());
                }
            }
        }

        #[test]
        fn no_window_has_more_than_the_burst_and_what_the_rate_allows(
            calls in 1_u32..=100_000,
            burst in 1_u32..=1_000,
            steps in prop::collection::vec(0_u64..=2_000_000, 2..400),
        ) {
            let gcra = Gcra::new(calls, Duration::from_secs(1), burst);
            let (bucket, mut now) = (Bucket::default(), Duration::ZERO);
            let mut taken = Vec::new();
            for step in steps {
                now += Duration::from_nanos(step);
                if gcra.take(&bucket, now, 1).is_ok() {
                    taken.push(now);
                }
            }
            prop_assert!(is_within(&taken, calls, burst));
        }
    }

    proptest! {
        #[test]
        fn shares_that_know_nothing_of_each_other_never_let_more_through_than_the_whole(
            calls in 1_u32..=10_000,
            shares in 1_u32..=20,
            burst in 20_u32..=1_000,
            steps in prop::collection::vec((0_u64..=2_000_000, 0_usize..20), 2..400),
        ) {
            let whole = Gcra::new(calls, Duration::from_secs(1), burst);
            let buckets: Vec<Bucket> = (0..shares).map(|_| Bucket::default()).collect();
            let (mut now, mut taken) = (Duration::ZERO, Vec::new());
            for (step, who) in steps {
                now += Duration::from_nanos(step);
                let bucket = &buckets[who % buckets.len()];
                if whole.share(shares).take(bucket, now, 1).is_ok() {
                    taken.push(now);
                }
            }
            prop_assert!(is_within(&taken, calls, burst));
        }
    }

    #[test]
    fn a_share_of_less_than_one_call_is_one_call_and_the_rate_is_kept() {
        let share = Gcra::new(60, Duration::from_secs(60), 60).share(120);
        let bucket = Bucket::default();
        assert_eq!(share.take(&bucket, Duration::ZERO, 1), Ok(()));
        assert_eq!(share.take(&bucket, Duration::ZERO, 1), Err(Duration::from_secs(120)));
    }

    #[test]
    fn by_a_coarser_clock_the_burst_is_the_same_and_the_interval_never_shorter() {
        let coarse = Gcra::new(3, Duration::from_secs(1), 3).by(16_384);
        assert_eq!((coarse.interval % 16_384, coarse.room(Duration::ZERO)), (0, 3));
        assert!(coarse.interval >= Gcra::new(3, Duration::from_secs(1), 3).interval);
    }

    #[test]
    fn room_is_what_can_still_be_taken_at_once() {
        let gcra = Gcra::new(100, Duration::from_secs(60), 100);
        assert_eq!(gcra.room(Duration::ZERO), 100);
        assert_eq!(gcra.room(Duration::from_secs(30)), 50);
        assert_eq!(gcra.room(Duration::from_secs(61)), 0);
        assert_eq!(gcra.share(4).room(Duration::ZERO), 25);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let gcra = Gcra::new(10, Duration::from_secs(1), 2);
        let bucket = Bucket::default();
        let now = Duration::from_secs(100);
        assert!(gcra.take(&bucket, now, 1).is_ok() && gcra.take(&bucket, now, 1).is_ok());
        assert_eq!(gcra.take(&bucket, now, 1), Err(Duration::from_millis(100)));
        gcra.give_back(&bucket);
        assert!(gcra.take(&bucket, now, 1).is_ok() && gcra.take(&bucket, now, 1).is_err());
    }

    #[test]
    fn threads_that_take_at_once_share_one_burst() {
        let gcra = Gcra::new(1, Duration::from_secs(3_600), 1_000);
        let bucket = Bucket::default();
        let take = || gcra.take(&bucket, Duration::ZERO, 1).is_ok();
        let take_many = || (0..1_000).filter(|_| take()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_many)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
