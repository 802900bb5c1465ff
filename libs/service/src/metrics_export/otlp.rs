//! Families as OTLP has them: counters as monotonic sums, histograms with explicit bounds, everything else as gauges.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::Gauge;
use opentelemetry_proto::tonic::metrics::v1::Histogram;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
use opentelemetry_proto::tonic::metrics::v1::Sum;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::page::FamilyRead;
use super::page::Kind;
use super::page::SampleRead;

/// Since when is counted, and when the counts were read, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started: u64,
    pub(super) now: u64,
}

/// Everything of one process.
pub(super) fn resource_metrics(
    resource: &[(&'static str, String)],
    families: Vec<FamilyRead>,
    times: Times,
) -> ResourceMetrics {
    let attributes = resource.iter().map(|(key, value)| attribute(key, value.clone())).collect();
    let scope = InstrumentationScope { name: "linkmesh".to_owned(), ..Default::default() };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope),
            metrics: families.into_iter().map(|family| metric(family, times)).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn metric(family: FamilyRead, times: Times) -> Metric {
    let FamilyRead { name, help, kind, samples } = family;
    let cumulative = AggregationTemporality::Cumulative.into();
    let (name, data) = match kind {
        Kind::Counter => {
            let data_points = numbers(samples, times);
            let sum = Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true };
            // As it is on the page, so that one dashboard serves both.
            (format!("{name}_total"), Data::Sum(sum))
        }
        Kind::Gauge => (name, Data::Gauge(Gauge { data_points: numbers(samples, times) })),
        Kind::Histogram => {
            let data_points = histograms(&name, samples, times);
            let histogram = Histogram { data_points, aggregation_temporality: cumulative };
            (name, Data::Histogram(histogram))
        }
    };
    Metric { name, description: help, data: Some(data), ..Default::default() }
}

fn numbers(samples: Vec<SampleRead>, times: Times) -> Vec<NumberDataPoint> {
    let point = |sample: SampleRead| NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..Default::default()
    };
    samples.into_iter().map(point).collect()
}

/// What the page says of one histogram, line by line.
#[derive(Default)]
struct Lines {
    /// Bounds with how many lie below them, in order; the last bound is infinite.
    buckets: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

fn histograms(name: &str, samples: Vec<SampleRead>, times: Times) -> Vec<HistogramDataPoint> {
    let mut histograms: BTreeMap<Vec<(String, String)>, Lines> = BTreeMap::new();
    for SampleRead { name: line, mut labels, value } in samples {
        let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at));
        let lines = histograms.entry(labels).or_default();
        match (line.strip_prefix(name), bound) {
            (Some("_bucket"), Some((_, bound))) => {
                let bound = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
                lines.buckets.extend(bound.map(|bound| (bound, count(value))));
            }
            (Some("_count"), _) => lines.count = count(value),
            (Some("_sum"), _) => lines.sum = value,
            _ => {}
        }
    }
    histograms.into_iter().map(|(labels, lines)| histogram(labels, lines, times)).collect()
}

fn histogram(labels: Vec<(String, String)>, lines: Lines, times: Times) -> HistogramDataPoint {
    let mut below = 0;
    let mut bucket_counts = Vec::with_capacity(lines.buckets.len());
    for (_, up_to) in &lines.buckets {
        bucket_counts.push(up_to.saturating_sub(below));
        below = *up_to;
    }
    let bounds = lines.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
    HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        count: lines.count,
        sum: Some(lines.sum),
        bucket_counts,
        explicit_bounds: bounds.collect(),
        ..Default::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, which was written as a whole number"
)]
fn count(value: f64) -> u64 {
    value as u64
}

fn attributes(labels: Vec<(String, String)>) -> Vec<KeyValue> {
    labels.into_iter().map(|(key, value)| attribute(&key, value)).collect()
}

fn attribute(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::super::page;
    use super::*;

    #[test]
    fn a_histogram_keeps_its_bounds_and_counts_each_duration_once() {
        let page = "\
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_sum{method=\"a\"} 0.5
took_seconds_count{method=\"a\"} 6
took_seconds_bucket{le=\"0.1\",method=\"a\"} 2
took_seconds_bucket{le=\"0.2\",method=\"a\"} 5
took_seconds_bucket{le=\"+Inf\",method=\"a\"} 6
";
        let metric = metric(page::parse(page).remove(0), Times { started: 1, now: 2 });
        let Some(Data::Histogram(histogram)) = metric.data else { panic!("{metric:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (6, Some(0.5)));
        assert_eq!(point.explicit_bounds, [0.1, 0.2]);
        assert_eq!(point.bucket_counts, [2, 3, 1]);
        assert_eq!(point.attributes.len(), 1);
    }

    #[test]
    fn a_counter_is_a_sum_that_only_grows_under_the_name_of_the_page() {
        let page = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{code=\"Ok\"} 7\n";
        let metric = metric(page::parse(page).remove(0), Times { started: 1, now: 2 });
        assert_eq!(metric.name, "calls_total");
        let Some(Data::Sum(sum)) = metric.data else { panic!("{metric:?}") };
        assert!(sum.is_monotonic);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(7.0)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
    }
}
