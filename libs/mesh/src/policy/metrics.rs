//! What is published of the policies that a process obeys.

use super::PolicySet;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    policy: String,
}

/// By the service that a policy is about; there are few. A series, once there, stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyMetrics {
    revision: Family<PolicyLabels, Gauge>,
    refused: Family<PolicyLabels, Gauge>,
}

impl PolicyMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mesh_policy_revision",
            "The revision of a service's policy that is in force here; 0: the defaults",
            metrics.revision.clone(),
        );
        registry.register(
            "mesh_policy_refused",
            "Whether what is stored as a service's policy can't be used; the last good one stays",
            metrics.refused.clone(),
        );
        metrics
    }

    /// Replaces what was published of `before`.
    pub(crate) fn show(&self, before: &PolicySet, now: &PolicySet) {
        let of = |service: &str| PolicyLabels { policy: service.to_owned() };
        for (service, _) in before.revisions() {
            self.revision.get_or_create(&of(service)).set(0);
        }
        for service in before.refused().keys() {
            self.refused.get_or_create(&of(service)).set(0);
        }
        for (service, revision) in now.revisions() {
            self.revision.get_or_create(&of(service)).set(revision);
        }
        for service in now.refused().keys() {
            self.refused.get_or_create(&of(service)).set(1);
        }
    }
}
