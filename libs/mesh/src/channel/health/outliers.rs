//! The comparison of a service's instances with each other: gRFC A50, "Outlier Detection", run by one task.

use super::Counts;
use crate::channel::clock::Tick;
use crate::policy::Outliers;
use std::time::Duration;

/// What the comparison remembers of an instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::channel) struct Record {
    /// Its calls since the last comparison.
    pub(in crate::channel) counts: Counts,
    /// How often in a row it was ejected, less one for each comparison in which it was not.
    multiplier: u32,
    /// Since when it is ejected.
    ejected: Option<Tick>,
}

impl Record {
    pub(in crate::channel) fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// When it is used again, if it is ejected.
    pub(in crate::channel) fn ejected_until(&self, outliers: &Outliers) -> Option<Tick> {
        Some(self.ejected?.after(self.ejection(outliers)))
    }

    fn ejection(&self, outliers: &Outliers) -> Duration {
        let longest = outliers.ejection_base.max(outliers.ejection_max);
        outliers.ejection_base.saturating_mul(self.multiplier).min(longest)
    }
}

/// How many may be ejected.
#[derive(Debug, Clone, Copy)]
pub(in crate::channel) struct Limits {
    pub(in crate::channel) ejected_percent_max: u32,
    /// Instances that must stay in use, so that ejections alone never cause a panic.
    pub(in crate::channel) used_min: usize,
    /// Instances that are out of use for other reasons.
    pub(in crate::channel) unusable: usize,
}

/// Compares: to be called every `outliers.interval`. The counts begin anew.
pub(in crate::channel) fn sweep(
    records: &mut [&mut Record],
    outliers: &Outliers,
    limits: Limits,
    now: Tick,
) {
    by_success_rate(records, outliers, limits, now);
    by_failure_percentage(records, outliers, limits, now);
    for record in records {
        record.counts = Counts::default();
        match record.ejected {
            None => record.multiplier = record.multiplier.saturating_sub(1),
            Some(since)
                if u128::from(now.since(since)) >= record.ejection(outliers).as_millis() =>
            {
                record.ejected = None;
            }
            Some(_) => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn by_success_rate(records: &mut [&mut Record], outliers: &Outliers, limits: Limits, now: Tick) {
    let rates: Vec<f64> = records
        .iter()
        .filter(|record| has_volume(record, outliers))
        .map(|record| success_rate(record.counts))
        .collect();
    if rates.len() < outliers.instances_min {
        return;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    let required = mean - variance.sqrt() * f64::from(outliers.success_rate_stdev_factor) / 1_000.0;
    eject(records, limits, now, |record| {
        has_volume(record, outliers) && success_rate(record.counts) < required
    });
}

fn by_failure_percentage(
    records: &mut [&mut Record],
    outliers: &Outliers,
    limits: Limits,
    now: Tick,
) {
    let Some(percent) = outliers.failure_percent else { return };
    let with_volume = records.iter().filter(|record| has_volume(record, outliers)).count();
    if with_volume < outliers.instances_min {
        return;
    }
    eject(records, limits, now, |record| {
        let Counts { calls, failures } = record.counts;
        has_volume(record, outliers) && failures * 100 > calls * u64::from(percent)
    });
}

fn eject(
    records: &mut [&mut Record],
    limits: Limits,
    now: Tick,
    is_outlier: impl Fn(&Record) -> bool,
) {
    let all = records.len();
    let mut ejected = records.iter().filter(|record| record.is_ejected()).count();
    for record in records {
        // Before each: so one may always be ejected, unless none may.
        let is_at_limit = ejected * 100 >= all * limits.ejected_percent_max as usize;
        let in_use = all.saturating_sub(ejected + limits.unusable);
        if is_at_limit || in_use <= limits.used_min {
            return;
        }
        if !record.is_ejected() && is_outlier(record) {
            record.ejected = Some(now);
            record.multiplier += 1;
            ejected += 1;
        }
    }
}

fn has_volume(record: &Record, outliers: &Outliers) -> bool {
    record.counts.calls >= u64::from(outliers.volume_min)
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn success_rate(counts: Counts) -> f64 {
    counts.calls.saturating_sub(counts.failures) as f64 / counts.calls as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    const FREE: Limits = Limits { ejected_percent_max: 10, used_min: 1, unusable: 0 };

    fn defaults() -> Outliers {
        Policy::default_of("links").health.outliers.unwrap()
    }

    fn at(seconds: u64) -> Tick {
        Tick(0).after(Duration::from_secs(seconds))
    }

    /// Compares instances of which each had so many failures in 100 calls; returns which are ejected.
    fn compare(
        records: &mut [Record],
        failures: &[u64],
        outliers: &Outliers,
        limits: Limits,
        now: Tick,
    ) -> Vec<usize> {
        for (record, failures) in records.iter_mut().zip(failures) {
            record.counts = Counts { calls: 100, failures: *failures };
        }
        sweep(&mut records.iter_mut().collect::<Vec<_>>(), outliers, limits, now);
        (0..records.len()).filter(|at| records[*at].is_ejected()).collect()
    }

    #[test]
    fn known_values() {
        // The success rates' mean less 1.9 of their standard deviations.
        let cases: [(&[u64], &[usize]); 6] = [
            (&[0, 0, 0, 0, 0], &[]),
            // Mean 0.8, deviation 0.4, required 0.04.
            (&[0, 0, 0, 0, 100], &[4]),
            // Mean 0.98, deviation 0.04, required 0.904.
            (&[0, 0, 0, 0, 10], &[4]),
            // Mean 0.984, deviation 0.0206, required 0.945: nobody is below it.
            (&[0, 0, 0, 3, 5], &[]),
            // Four are too few to compare.
            (&[0, 0, 0, 100], &[]),
            // Both are below 0.424, and one in ten is the most.
            (&[0, 0, 0, 0, 0, 0, 0, 0, 60, 60], &[8]),
        ];
        for (failures, ejected) in cases {
            let mut records = vec![Record::default(); failures.len()];
            assert_eq!(
                compare(&mut records, failures, &defaults(), FREE, at(10)),
                ejected,
                "{failures:?}"
            );
        }
    }

    #[test]
    fn who_had_few_calls_is_not_compared() {
        let mut records = vec![Record::default(); 6];
        for record in &mut records {
            record.counts = Counts { calls: 100, failures: 0 };
        }
        records[5].counts = Counts { calls: 99, failures: 99 };
        sweep(&mut records.iter_mut().collect::<Vec<_>>(), &defaults(), FREE, at(10));
        assert!(!records[5].is_ejected());
    }

    #[test]
    fn an_ejection_is_longer_each_time_and_shorter_after_good_times() {
        let outliers = defaults();
        let mut records = vec![Record::default(); 5];
        let bad = [0, 0, 0, 0, 100];
        let mut now = 0;
        for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            assert_eq!(compare(&mut records, &bad, &outliers, FREE, at(now)), [4]);
            assert_eq!(records[4].ejected_until(&outliers), Some(at(now + seconds)));
            let before = at(now + seconds - 1);
            assert_eq!(compare(&mut records, &[0; 5], &outliers, FREE, before), [4]);
            now += seconds;
            assert!(compare(&mut records, &[0; 5], &outliers, FREE, at(now)).is_empty());
        }
        for _ in 0..20 {
            now += 10;
            assert!(compare(&mut records, &[0; 5], &outliers, FREE, at(now)).is_empty());
        }
        compare(&mut records, &bad, &outliers, FREE, at(now));
        assert_eq!(records[4].ejected_until(&outliers), Some(at(now + 30)));
    }

    #[test]
    fn the_failure_percentage_counts_only_if_it_is_asked_for() {
        let mut outliers = defaults();
        // All alike, so that the success rates say nothing.
        let mut records = vec![Record::default(); 20];
        assert!(compare(&mut records, &[90; 20], &outliers, FREE, at(10)).is_empty());
        outliers.failure_percent = Some(85);
        assert_eq!(compare(&mut records, &[85; 20], &outliers, FREE, at(20)), [0; 0]);
        assert_eq!(compare(&mut records, &[86; 20], &outliers, FREE, at(30)), [0, 1]);
    }

    #[test]
    fn enough_stay_in_use() {
        let bad = [100, 0, 0, 0, 0];
        let limits = |ejected_percent_max, used_min, unusable| Limits {
            ejected_percent_max,
            used_min,
            unusable,
        };
        for (limits, ejected) in [
            (limits(10, 1, 0), 1),
            (limits(0, 1, 0), 0),
            (limits(10, 5, 0), 0),
            (limits(10, 3, 1), 1),
            (limits(10, 3, 2), 0),
        ] {
            let mut records = vec![Record::default(); 5];
            let found = compare(&mut records, &bad, &defaults(), limits, at(10)).len();
            assert_eq!(found, ejected, "{limits:?}");
        }
    }
}
