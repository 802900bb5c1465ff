//! What was counted within a window: the difference of two looks, summed over whatever is not asked for, with rates and
//! percentiles.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::mesh::v1::CallStats;
use proto::mesh::v1::Stats;
use tonic::Code;

/// Codes by which a callee says that it failed: what the mesh blames an instance for, and UNKNOWN, which handlers that panic
/// return. That a caller was refused or wrong is no failure.
const FAILURES: [Code; 5] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Internal, Code::Unavailable, Code::DataLoss];

/// What happened between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// How many calls ended, by code.
    pub(super) codes: BTreeMap<u32, u64>,
    /// By the bucket's bounds in microseconds.
    buckets: BTreeMap<(u64, u64), u64>,
    /// Calls in a second, summed over the instances that count.
    pub(super) rps: f64,
}

/// Which end of the calls counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Callee,
    Caller,
}

/// Which calls they are, before they are summed up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Calls {
    pub(super) caller: String,
    pub(super) callee: String,
    /// The instance that counted.
    pub(super) instance: String,
    pub(super) method: String,
}

impl Sample {
    /// What an end of the calls counted between two looks at the same instances, by `key`; what `key` leaves out is not
    /// counted. An instance that was not there before, or began anew, counts from its beginning.
    pub(super) fn between<K: Ord>(
        before: &[Stats],
        after: &[Stats],
        end: End,
        key: impl Fn(&Calls) -> Option<K>,
    ) -> BTreeMap<K, Sample> {
        let mut samples: BTreeMap<K, Sample> = BTreeMap::new();
        for now in after {
            let earlier = before.iter().find(|then| {
                then.instance == now.instance
                    && then.service == now.service
                    && uptime(then) <= uptime(now)
            });
            let window = uptime(now) - earlier.map_or(0.0, uptime);
            let then: BTreeMap<_, _> = earlier
                .into_iter()
                .flat_map(|then| calls_of(then, end))
                .map(|calls| ((&calls.caller, &calls.callee, &calls.method), calls))
                .collect();
            for calls in calls_of(now, end) {
                let which = Calls {
                    caller: calls.caller.clone(),
                    callee: calls.callee.clone(),
                    instance: now.instance.clone(),
                    method: calls.method.clone(),
                };
                let Some(key) = key(&which) else { continue };
                let then = then.get(&(&calls.caller, &calls.callee, &calls.method)).copied();
                samples.entry(key).or_default().add(then, calls, window);
            }
        }
        samples.retain(|_, sample| sample.calls() > 0);
        samples
    }

    fn add(&mut self, then: Option<&CallStats>, now: &CallStats, window: f64) {
        let before = self.calls();
        for code in &now.codes {
            let then = then.and_then(|then| then.codes.iter().find(|it| it.code == code.code));
            let count = code.count.saturating_sub(then.map_or(0, |then| then.count));
            if count > 0 {
                *self.codes.entry(code.code).or_default() += count;
            }
        }
        for bucket in now.latency.iter().flat_map(|latency| &latency.buckets) {
            let same = |it: &&proto::mesh::v1::LatencyBucket| it.from_micros == bucket.from_micros;
            let then = then.and_then(|then| then.latency.as_ref()?.buckets.iter().find(same));
            let count = bucket.count.saturating_sub(then.map_or(0, |then| then.count));
            if count > 0 {
                *self.buckets.entry((bucket.from_micros, bucket.to_micros)).or_default() += count;
            }
        }
        self.rps += as_float(self.calls() - before) / window.max(1e-3);
    }

    /// How many calls ended.
    pub(super) fn calls(&self) -> u64 {
        self.codes.values().sum()
    }

    /// The share of them that the callee did not fail, 0 to 1.
    pub(super) fn success_rate(&self) -> Option<f64> {
        let failures: u64 = FAILURES
            .iter()
            .filter_map(|code| self.codes.get(&u32::try_from(i32::from(*code)).ok()?))
            .sum();
        let calls = self.calls();
        (calls > 0).then(|| 1.0 - as_float(failures) / as_float(calls))
    }

    /// How long the fastest `percent` of the calls took at most: within the bucket that holds the answer, where it would be if its
    /// calls lay evenly.
    pub(super) fn percentile(&self, percent: f64) -> Option<Duration> {
        let count: u64 = self.buckets.values().sum();
        let rank = as_float(count) * percent / 100.0;
        let mut below = 0;
        for ((from, to), count) in &self.buckets {
            let within = rank - as_float(below);
            below += count;
            if rank <= as_float(below) {
                let share = (within / as_float(*count)).clamp(0.0, 1.0);
                // The last bucket has no end.
                let width = as_float(to.saturating_sub(*from));
                return Some(Duration::from_secs_f64((as_float(*from) + share * width) / 1e6));
            }
        }
        None
    }

    /// The codes other than OK, the most frequent first: `NOT_FOUND 12, PERMISSION_DENIED 3`.
    pub(super) fn other_codes(&self) -> String {
        let mut codes: Vec<_> = self.codes.iter().filter(|(code, _)| **code != 0).collect();
        codes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let codes = codes.iter().map(|(code, count)| format!("{} {count}", code_name(**code)));
        codes.collect::<Vec<_>>().join(", ")
    }
}

fn calls_of(stats: &Stats, end: End) -> &[CallStats] {
    match end {
        End::Callee => &stats.inbound,
        End::Caller => &stats.outbound,
    }
}

fn uptime(stats: &Stats) -> f64 {
    let uptime = stats.uptime.and_then(|uptime| Duration::try_from(uptime).ok());
    uptime.unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls, for people")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// A code as gRPC writes it.
pub(super) fn code_name(code: u32) -> &'static str {
    match i32::try_from(code).map_or(Code::Unknown, Code::from_i32) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proto::mesh::v1::CodeCount;
    use proto::mesh::v1::Latency;
    use proto::mesh::v1::LatencyBucket;

    use super::*;

    pub(in crate::mesh_command) fn calls(
        caller: &str,
        method: &str,
        codes: &[(u32, u64)],
        buckets: &[(u64, u64, u64)],
    ) -> CallStats {
        let bucket = |&(from_micros, to_micros, count): &(u64, u64, u64)| LatencyBucket {
            from_micros,
            to_micros,
            count,
        };
        let latency = Latency { buckets: buckets.iter().map(bucket).collect(), sum: None };
        CallStats {
            caller: caller.to_owned(),
            callee: "links".to_owned(),
            method: method.to_owned(),
            codes: codes.iter().map(|&(code, count)| CodeCount { code, count }).collect(),
            events: Vec::new(),
            latency: Some(latency),
        }
    }

    pub(in crate::mesh_command) fn stats(
        instance: &str,
        uptime: u64,
        inbound: Vec<CallStats>,
    ) -> Stats {
        Stats {
            service: "links".to_owned(),
            instance: instance.to_owned(),
            spiffe_id: "spiffe://linkmesh/service/links".to_owned(),
            uptime: Duration::from_secs(uptime).try_into().ok(),
            inbound,
            outbound: Vec::new(),
        }
    }

    #[test]
    fn a_window_is_the_difference_of_two_looks_summed_over_instances() {
        let before =
            [stats("links-1", 100, vec![calls("edge", "a.A/B", &[(0, 50)], &[(10, 11, 50)])])];
        let after = [
            stats(
                "links-1",
                110,
                vec![calls("edge", "a.A/B", &[(0, 150), (14, 5)], &[(10, 11, 155)])],
            ),
            // It has begun since.
            stats("links-2", 5, vec![calls("edge", "a.A/B", &[(0, 50)], &[(10, 11, 50)])]),
            // Nothing within the window.
            stats("links-3", 110, vec![calls("edge", "a.A/B", &[], &[])]),
        ];
        let by_service =
            Sample::between(&before, &after, End::Callee, |calls| Some(calls.callee.clone()));
        let sample = &by_service["links"];
        assert_eq!(sample.calls(), 155);
        assert!((sample.rps - (105.0 / 10.0 + 50.0 / 5.0)).abs() < 1e-6, "{}", sample.rps);
        assert!((sample.success_rate().unwrap() - 150.0 / 155.0).abs() < 1e-9);
        assert_eq!(sample.other_codes(), "UNAVAILABLE 5");
        let by_instance =
            Sample::between(&before, &after, End::Callee, |calls| Some(calls.instance.clone()));
        assert_eq!(by_instance.keys().collect::<Vec<_>>(), ["links-1", "links-2"]);
    }

    #[test]
    fn an_instance_that_began_anew_counts_from_its_beginning() {
        let before = [stats("links-1", 100, vec![calls("edge", "a.A/B", &[(0, 50)], &[])])];
        let after = [stats("links-1", 10, vec![calls("edge", "a.A/B", &[(0, 20)], &[])])];
        let samples = Sample::between(&before, &after, End::Callee, |_| Some(()));
        assert_eq!(samples[&()].calls(), 20);
        assert!((samples[&()].rps - 2.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_lie_within_the_bucket_that_holds_them() {
        let buckets = [(100, 110, 50), (1_000, 1_100, 45), (100_000_000, 0, 5)];
        let after = [stats("links-1", 1, vec![calls("edge", "a.A/B", &[(0, 100)], &buckets)])];
        let samples = Sample::between(&[], &after, End::Callee, |_| Some(()));
        let sample = &samples[&()];
        assert_eq!(sample.percentile(50.0), Some(Duration::from_micros(110)));
        assert_eq!(sample.percentile(95.0), Some(Duration::from_micros(1_100)));
        assert_eq!(sample.percentile(99.0), Some(Duration::from_secs(100)));
        assert_eq!(Sample::default().percentile(50.0), None);
    }

    #[test]
    fn a_refused_caller_is_no_failure() {
        let after = [stats("links-1", 1, vec![calls("analytics", "a.A/B", &[(7, 3)], &[])])];
        let samples = Sample::between(&[], &after, End::Callee, |_| Some(()));
        assert_eq!(samples[&()].success_rate(), Some(1.0));
        assert_eq!(samples[&()].other_codes(), "PERMISSION_DENIED 3");
    }
}
