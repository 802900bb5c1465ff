//! `db_query_duration_seconds` and `db_connections_active`, under the names that the platform's dashboards use.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sqlx::PgPool;

/// Label of a query's duration; `query` is a constant in the code, so the set is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueryLabels {
    query: &'static str,
}

/// Durations of named queries, from half a millisecond to ten seconds.
#[derive(Debug, Clone)]
pub(crate) struct QueryDurations(Family<QueryLabels, Histogram>);

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

impl QueryDurations {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let family =
            Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        registry.register(
            "db_query_duration_seconds",
            "Time from asking for a connection to the last row, by query",
            family.clone(),
        );
        Self(family)
    }

    pub(crate) fn observe(&self, query: &'static str, seconds: f64) {
        self.0.get_or_create(&QueryLabels { query }).observe(seconds);
    }
}

/// Reads the pools when asked: a gauge kept by hand would drift at the first cancelled query.
#[derive(Debug)]
pub(crate) struct Connections {
    pools: Vec<(String, PgPool)>,
}

impl Connections {
    pub(crate) fn register(pools: Vec<(String, PgPool)>, registry: &mut Registry) {
        registry.register_collector(Box::new(Self { pools }));
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "db_connections_active",
            "Connections that are running a statement or hold a transaction.",
            None,
            MetricType::Gauge,
        )?;
        for (server, pool) in &self.pools {
            let open = i64::from(pool.size());
            let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
            let labels = [("server", server.as_str())];
            ConstGauge::new((open - idle).max(0)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
