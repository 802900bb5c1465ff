//! What the spool tells about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

const SYNC_SECONDS_BUCKETS: [f64; 10] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) bytes: Gauge,
    pub(crate) unshipped: Gauge,
    pub(crate) lost: Counter,
    pub(crate) shipped: Counter,
    pub(crate) records: Counter,
    pub(crate) sync_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            bytes: Gauge::default(),
            unshipped: Gauge::default(),
            lost: Counter::default(),
            shipped: Counter::default(),
            records: Counter::default(),
            sync_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
        };
        registry.register("spool_bytes", "Bytes of the spool on disk", metrics.bytes.clone());
        registry.register(
            "spool_unshipped_clicks",
            "Clicks that were read or written and not acknowledged yet; what an earlier process left counts once it is read",
            metrics.unshipped.clone(),
        );
        registry.register(
            "spool_lost_clicks",
            "Clicks that were answered and will never be counted",
            metrics.lost.clone(),
        );
        registry.register(
            "spool_shipped_clicks",
            "Clicks acknowledged by the log",
            metrics.shipped.clone(),
        );
        registry.register(
            "spool_shipped_records",
            "Records acknowledged by the log",
            metrics.records.clone(),
        );
        registry.register_with_unit(
            "spool_sync",
            "Time to make what was written durable",
            Unit::Seconds,
            metrics.sync_seconds.clone(),
        );
        metrics
    }
}
