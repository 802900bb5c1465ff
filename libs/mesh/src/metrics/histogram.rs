//! A histogram of durations that is fine enough for percentiles, without a lock and without an allocation.
//!
//! Its buckets are of two significant digits: each decade of microseconds from 10 µs to 100 s is cut by 1 up to 2, by 2 up to 5,
//! and by 5 up to 10 of its tenths. So no bucket is wider than a tenth of what it holds, and round numbers (100 µs, 5 ms, 1 s) are
//! bounds, which is what the coarser buckets for Prometheus are made of, exactly.

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Decades with buckets of their own: 10 µs, 100 µs, … 10 s.
const DECADES: usize = 7;
/// Buckets in a decade: 10 of a tenth, 15 of two tenths, 10 of five.
const PER_DECADE: usize = 35;
/// One for all that is shorter than the first decade, and one for what is longer than the last.
const BUCKETS: usize = 1 + DECADES * PER_DECADE + 1;
/// The shortest and the longest duration that a bucket of a decade holds, in microseconds; the longest excluded.
const MICROS_MIN: u64 = 10;
const MICROS_MAX: u64 = 100_000_000;

const _: () = assert!(MICROS_MIN * 10_u64.pow(7) == MICROS_MAX && DECADES == 7);

/// The bounds that Prometheus is shown, in microseconds: fine where calls within a zone are, up to the longest that is usual. Each is
/// a bound of the fine buckets too.
const SHOWN_MICROS: [u64; 22] = [
    50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000, 50_000,
    100_000, 200_000, 500_000, 1_000_000, 2_000_000, 10_000_000, 60_000_000,
];

/// Counts durations. Cheap to clone; all clones are the same histogram.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: AtomicU64::new(0) }
    }
}

/// What a histogram had counted when it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// The buckets that hold something, the shortest first.
    pub buckets: Vec<LatencyBucket>,
    /// The sum of all durations.
    pub sum: Duration,
}

/// How many durations lay within two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencyBucket {
    /// The shortest that it holds.
    pub from: Duration,
    /// What is longer than all that it holds; none for the last bucket.
    pub to: Option<Duration>,
    /// How many.
    pub count: u64,
}

impl Histogram {
    /// Counts a duration.
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.buckets[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted until now. A duration that is being counted meanwhile may be in the buckets and not yet in the sum.
    pub(crate) fn latency(&self) -> Latency {
        let held = |(index, count): (usize, &AtomicU64)| {
            let count = count.load(Ordering::Relaxed);
            let to = (index + 1 < BUCKETS).then(|| Duration::from_micros(start_of(index + 1)));
            (count > 0).then(|| {
                let from = Duration::from_micros(start_of(index));
                LatencyBucket { from, to, count }
            })
        };
        let buckets = self.0.buckets.iter().enumerate().filter_map(held).collect();
        let sum = Duration::from_nanos(self.0.sum_nanos.load(Ordering::Relaxed));
        Latency { buckets, sum }
    }
}

/// The bucket that holds a duration.
fn bucket_of(micros: u64) -> usize {
    if micros < MICROS_MIN {
        return 0;
    }
    if micros >= MICROS_MAX {
        return BUCKETS - 1;
    }
    // From here 32 bits hold it, whose logarithm and division are the cheap ones.
    let micros = u32::try_from(micros).expect("it is less than the longest");
    let decade = micros.ilog10() - 1;
    let tenths = micros / 10_u32.pow(decade);
    let within = match tenths {
        ..20 => tenths - 10,
        20..50 => 10 + (tenths - 20) / 2,
        50.. => 25 + (tenths - 50) / 5,
    };
    let decade = usize::try_from(decade).expect("less than the number of decades");
    1 + decade * PER_DECADE + usize::try_from(within).expect("less than a decade has")
}

/// The shortest duration that a bucket holds, in microseconds.
fn start_of(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else { return 0 };
    let (decade, within) = (index / PER_DECADE, index % PER_DECADE);
    let tenths = match within {
        ..10 => 10 + within,
        10..25 => 20 + (within - 10) * 2,
        25.. => 50 + (within - 25) * 5,
    };
    let tenth = 10_u64.pow(u32::try_from(decade).expect("there are few decades"));
    tenth * u64::try_from(tenths).expect("less than a hundred")
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is a float by definition")]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut buckets: Vec<(f64, u64)> = SHOWN_MICROS
            .iter()
            .map(|micros| (Duration::from_micros(*micros).as_secs_f64(), 0))
            .chain([(f64::INFINITY, 0)])
            .collect();
        for (index, count) in self.0.buckets.iter().enumerate() {
            let shown = SHOWN_MICROS.partition_point(|bound| *bound <= start_of(index));
            buckets[shown].1 += count.load(Ordering::Relaxed);
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(start_of(bucket)), bucket);
            if bucket > 0 {
                assert_eq!(bucket_of(start_of(bucket) - 1), bucket - 1);
            }
        }
        assert_eq!(start_of(BUCKETS - 1), MICROS_MAX);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_prometheus_is_shown_is_exact() {
        for bound in SHOWN_MICROS {
            assert_eq!(start_of(bucket_of(bound)), bound, "{bound} µs is no bound");
        }
    }

    proptest! {
        #[test]
        fn no_bucket_is_wider_than_a_tenth_of_what_it_holds(micros in MICROS_MIN..MICROS_MAX) {
            let bucket = bucket_of(micros);
            let (from, to) = (start_of(bucket), start_of(bucket + 1));
            prop_assert!((from..to).contains(&micros));
            prop_assert!((to - from) * 10 <= from);
        }

        #[test]
        fn every_duration_is_counted_once(
            nanos in prop::collection::vec(0_u64..200_000_000_000, 0..200),
        ) {
            let histogram = Histogram::default();
            for nanos in &nanos {
                histogram.observe(Duration::from_nanos(*nanos));
            }
            let latency = histogram.latency();
            let count: u64 = latency.buckets.iter().map(|bucket| bucket.count).sum();
            prop_assert_eq!(count, nanos.len() as u64);
            prop_assert_eq!(latency.sum, Duration::from_nanos(nanos.iter().sum()));
            for bucket in latency.buckets {
                let within = nanos.iter().map(|nanos| Duration::from_nanos(*nanos)).filter(
                    |duration| *duration >= bucket.from && bucket.to.is_none_or(|to| *duration < to),
                );
                prop_assert_eq!(within.count() as u64, bucket.count);
            }
        }
    }
}
