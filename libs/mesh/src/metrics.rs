//! Golden metrics: calls by caller, callee, method and code, and how long they took.
//!
//! What a call touches are atomics that were looked up before; labels are bounded by the number of services and of methods
//! in `proto/`. A series, once there, stays.

use crate::methods::METHODS;
use crate::methods::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Code;

/// How many gRPC codes there are.
const CODES: usize = 17;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    caller: String,
    callee: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    caller: String,
    callee: String,
    method: String,
    code: String,
}

/// The families of one direction.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallMetrics {
    requests: Family<CodeLabels, Counter>,
    durations: Family<MethodLabels, Histogram>,
    retries: Family<MethodLabels, Counter>,
}

impl CallMetrics {
    /// Those of the calls that a process makes.
    pub(crate) fn outbound(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mesh_requests",
            "Calls made, by the code that the caller was given",
            metrics.requests.clone(),
        );
        registry.register(
            "mesh_request_duration_seconds",
            "How long calls made took, retries included",
            metrics.durations.clone(),
        );
        registry.register("mesh_retries", "Attempts made after the first", metrics.retries.clone());
        metrics
    }

    /// Those of the calls that a process answers.
    pub(crate) fn inbound(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mesh_server_requests",
            "Calls answered, by code",
            metrics.requests.clone(),
        );
        registry.register(
            "mesh_server_request_duration_seconds",
            "How long calls answered took",
            metrics.durations.clone(),
        );
        metrics
    }

    /// Those between one caller and one callee.
    pub(crate) fn between(&self, caller: &str, callee: &str) -> PairMetrics {
        PairMetrics {
            families: self.clone(),
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            methods: (0..METHODS.count()).map(|_| OnceLock::new()).collect(),
            other: OnceLock::new(),
        }
    }
}

/// The metrics between one caller and one callee.
#[derive(Debug)]
pub(crate) struct PairMetrics {
    families: CallMetrics,
    caller: String,
    callee: String,
    methods: Box<[OnceLock<MethodMetrics>]>,
    other: OnceLock<MethodMetrics>,
}

#[derive(Debug)]
struct MethodMetrics {
    by_code: [OnceLock<Counter>; CODES],
    duration: Histogram,
}

impl PairMetrics {
    /// Counts a call that is done.
    pub(crate) fn observe(&self, method: &Method, code: Code, duration: Duration) {
        let metrics = self.of(method);
        let counter = usize::try_from(i32::from(code)).ok().and_then(|at| metrics.by_code.get(at));
        counter
            .expect("a gRPC code is 0 to 16")
            .get_or_init(|| {
                let labels = CodeLabels {
                    caller: self.caller.clone(),
                    callee: self.callee.clone(),
                    method: method.name.clone(),
                    code: format!("{code:?}"),
                };
                self.families.requests.get_or_create_owned(&labels)
            })
            .inc();
        metrics.duration.observe(duration);
    }

    /// Counts an attempt after the first.
    pub(crate) fn observe_retry(&self, method: &Method) {
        self.families.retries.get_or_create(&self.labels(method)).inc();
    }

    fn of(&self, method: &Method) -> &MethodMetrics {
        let cell = method.index.map_or(&self.other, |index| &self.methods[index]);
        cell.get_or_init(|| MethodMetrics {
            by_code: [const { OnceLock::new() }; CODES],
            duration: self.families.durations.get_or_create_owned(&self.labels(method)),
        })
    }

    fn labels(&self, method: &Method) -> MethodLabels {
        MethodLabels {
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            method: method.name.clone(),
        }
    }
}

/// Upper bounds in microseconds: fine where calls within a zone are, up to the longest that is usual.
const BOUNDS_MICROS: [u64; 18] = [
    100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 25_000, 50_000, 100_000,
    250_000, 500_000, 1_000_000, 10_000_000,
];

/// A histogram of durations without a lock: prometheus-client's own takes one for each observation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// One for each bound, and one for what is longer.
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is a float by definition")]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds =
            BOUNDS_MICROS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64());
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
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
    use prometheus_client::encoding::text::encode;

    #[test]
    fn a_call_shows_under_caller_callee_method_and_code() {
        let mut registry = Registry::default();
        let pair = CallMetrics::outbound(&mut registry).between("edge", "links");
        let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
        pair.observe(method, Code::Ok, Duration::from_micros(150));
        pair.observe(method, Code::NotFound, Duration::from_secs(20));
        pair.observe_retry(method);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let labels =
            r#"caller="edge",callee="links",method="linkmesh.links.v1.LinksService/GetLink""#;
        for line in [
            format!(r#"mesh_requests_total{{{labels},code="Ok"}} 1"#),
            format!(r#"mesh_requests_total{{{labels},code="NotFound"}} 1"#),
            format!(r#"mesh_retries_total{{{labels}}} 1"#),
            format!(r#"mesh_request_duration_seconds_count{{{labels}}} 2"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="0.0001",{labels}}} 0"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="0.0002",{labels}}} 1"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="+Inf",{labels}}} 2"#),
        ] {
            assert!(page.contains(&line), "{line}\n{page}");
        }
    }
}
