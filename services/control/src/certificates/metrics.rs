//! What is published of the certificates that control issues and refuses.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// By what proof a certificate was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    proof: &'static str,
}

/// The metrics of control's certificates. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    issued: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    issuer_expiry: Gauge,
    reload_failures: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "control_certificates_issued",
            "Certificates issued, by what was shown for them",
            metrics.issued.clone(),
        );
        registry.register(
            "control_certificates_refused",
            "Requests for certificates that were refused, by what was shown for them",
            metrics.refused.clone(),
        );
        registry.register(
            "control_issuer_expiry_timestamp_seconds",
            "When the certificate runs out that this control issues with",
            metrics.issuer_expiry.clone(),
        );
        registry.register(
            "control_authority_failures",
            "Times that the authority's folder could not be used; what was read before is",
            metrics.reload_failures.clone(),
        );
        metrics
    }

    pub(super) fn issued(&self, proof: &'static str) {
        self.issued.get_or_create(&Labels { proof }).inc();
    }

    pub(super) fn refused(&self, proof: &'static str) {
        self.refused.get_or_create(&Labels { proof }).inc();
    }

    pub(super) fn issuing_until(&self, seconds: i64) {
        self.issuer_expiry.set(seconds);
    }

    pub(super) fn not_reloaded(&self) {
        self.reload_failures.inc();
    }
}
