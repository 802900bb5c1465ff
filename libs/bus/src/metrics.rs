//! What the bus tells about itself, by topic.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::record::Stored;

const PRODUCE_SECONDS_BUCKETS: [f64; 11] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    topic: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    produced_records: Family<Labels, Counter>,
    produced_bytes: Family<Labels, Counter>,
    produce_seconds: Family<Labels, Histogram>,
    read_records: Family<Labels, Counter>,
    read_bytes: Family<Labels, Counter>,
}

/// One reader's part, looked up once.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    records: Counter,
    bytes: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            produced_records: Family::default(),
            produced_bytes: Family::default(),
            produce_seconds: Family::new_with_constructor(|| {
                Histogram::new(PRODUCE_SECONDS_BUCKETS)
            }),
            read_records: Family::default(),
            read_bytes: Family::default(),
        };
        let (produced, read) = ("Records acknowledged by the log", "Records read from the log");
        registry.register("bus_produced_records", produced, metrics.produced_records.clone());
        registry.register_with_unit(
            "bus_produced",
            "Keys, headers and values acknowledged by the log",
            Unit::Bytes,
            metrics.produced_bytes.clone(),
        );
        registry.register_with_unit(
            "bus_produce",
            "Time from offering a record to its acknowledgement",
            Unit::Seconds,
            metrics.produce_seconds.clone(),
        );
        registry.register("bus_read_records", read, metrics.read_records.clone());
        registry.register_with_unit(
            "bus_read",
            "Values read from the log",
            Unit::Bytes,
            metrics.read_bytes.clone(),
        );
        metrics
    }

    pub(crate) fn produced(&self, topic: &str, bytes: usize, took: Duration) {
        let labels = Labels { topic: topic.to_owned() };
        self.produced_records.get_or_create(&labels).inc();
        self.produced_bytes.get_or_create(&labels).inc_by(bytes as u64);
        self.produce_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn reading(&self, topic: &str) -> Reading {
        let labels = Labels { topic: topic.to_owned() };
        Reading {
            records: self.read_records.get_or_create_owned(&labels),
            bytes: self.read_bytes.get_or_create_owned(&labels),
        }
    }
}

impl Reading {
    pub(crate) fn read(&self, records: &[Stored]) {
        self.records.inc_by(records.len() as u64);
        self.bytes.inc_by(records.iter().map(|record| record.value.len() as u64).sum());
    }
}
