//! What is published of an identity: when its certificate runs out, and how its renewal fares.

use super::Credentials;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of one identity.
#[derive(Debug, Clone, Default)]
pub(super) struct IdentityMetrics {
    not_after: Gauge,
    roots: Gauge,
    rotations: Counter,
    failures: Counter,
}

impl IdentityMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "mesh_certificate_expiry_timestamp_seconds",
            "When the certificate that is shown to peers runs out",
            self.not_after.clone(),
        );
        registry.register(
            "mesh_trusted_roots",
            "Roots that are trusted; two or more while the certificate authority rotates",
            self.roots.clone(),
        );
        registry.register(
            "mesh_certificate_rotations",
            "Certificates that were replaced in use",
            self.rotations.clone(),
        );
        registry.register(
            "mesh_certificate_failures",
            "Attempts to get a certificate that failed",
            self.failures.clone(),
        );
    }

    /// These are in use now.
    pub(super) fn proved(&self, credentials: &Credentials) {
        self.not_after.set(credentials.validity.not_after.as_second());
        let roots = i64::try_from(credentials.roots.len()).expect("there are a few roots at most");
        self.roots.set(roots);
    }

    /// They replaced others.
    pub(super) fn rotated(&self) {
        self.rotations.inc();
    }

    /// There should be others by now.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}
