//! What is seen of limits from outside.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::limits::store::StoreMetrics;

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    refused: Family<Limit, Counter>,
    pub(super) refused_redirects: Counter,
    reloads: Family<Reload, Counter>,
    pub(super) edges: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry, store: &StoreMetrics) -> Self {
        let refused = Family::<Limit, Counter>::default();
        let reloads = Family::<Reload, Counter>::default();
        let edges = Gauge::default();
        registry.register("edge_rate_limited", "Refused requests, by limit", refused.clone());
        let help = "Changed files of limits, by what became of them";
        registry.register("edge_limits_reloads", help, reloads.clone());
        let help = "Edges among which limits are split when Redis is away";
        registry.register("edge_limits_edges", help, edges.clone());
        let help = "1 while this edge decides about limits alone, at its share";
        registry.register("edge_limits_local", help, store.is_local.clone());
        let help = "How often Redis was left alone because it did not answer about limits in time";
        registry.register("edge_limits_losses", help, store.losses.clone());
        let redirect = Limit { limit: "redirect".to_owned() };
        let refused_redirects = refused.get_or_create_owned(&redirect);
        Self { refused, refused_redirects, reloads, edges }
    }

    /// Counts a request that a limit refused.
    pub(super) fn refuse(&self, limit: &str) {
        self.refused.get_or_create(&Limit { limit: limit.to_owned() }).inc();
    }

    /// Counts a changed file.
    pub(super) fn reload(&self, result: &'static str) {
        self.reloads.get_or_create(&Reload { result }).inc();
    }
}
