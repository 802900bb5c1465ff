//! Who a service is: a key, a certificate that names it, and the roots that vouch for the others.
//!
//! An identity belongs to a service, not to a process. Its certificate names `spiffe://linkmesh/service/<name>`, and
//! `<name>.linkmesh.internal` for stock clients. What proves it rotates under the handle: each handshake takes what is
//! there at that moment.

mod authority;
mod credentials;
mod metrics;
mod name;
mod peer;
mod tls;
mod view;

pub use authority::LocalAuthority;
pub use credentials::Credentials;
pub use credentials::ROOTS_MAX;
pub use credentials::Validity;
pub use name::ServiceName;
pub use peer::ANONYMOUS;
pub use peer::OPERATOR;
pub use peer::PeerIdentity;
pub use peer::Role;
pub use view::CertificateView;
pub use view::RootView;

use anyhow::ensure;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::IdentityMetrics;
use prometheus_client::registry::Registry as MetricsRegistry;
use rustls::ClientConfig;
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use tls::Tls;

/// The trust domain of every identity.
pub const TRUST_DOMAIN: &str = "linkmesh";

/// What a service proves itself with. Cheap to clone: all clones are the same identity, and rotate together.
#[derive(Clone)]
pub struct Identity(Arc<Live>);

struct Live {
    peer: PeerIdentity,
    security: ArcSwap<Security>,
    metrics: IdentityMetrics,
}

/// What a handshake is made with.
enum Security {
    /// Both sides prove who they are.
    Tls(Proof),
    /// Nobody proves anything: the peer is taken for a service of the same name.
    Plaintext,
}

/// Credentials, and what TLS makes of them.
struct Proof {
    tls: Tls,
    credentials: Credentials,
}

impl Identity {
    /// An identity that is proved by `credentials`, until [`replace`](Self::replace) says otherwise.
    ///
    /// # Errors
    /// If key and certificate don't belong together, or a root can't be trusted.
    pub fn new(credentials: Credentials) -> anyhow::Result<Self> {
        let peer = credentials.peer.clone();
        let metrics = IdentityMetrics::default();
        metrics.proved(&credentials);
        let security = Security::Tls(Proof { tls: Tls::new(&credentials)?, credentials });
        Ok(Self(Arc::new(Live { peer, security: ArcSwap::from_pointee(security), metrics })))
    }

    /// An identity without TLS that takes every peer for a service of its own name. For the bench, which compares with a bare
    /// channel; nothing that is configured leads here.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn plaintext_for_bench(service: &str) -> anyhow::Result<Self> {
        let live = Live {
            peer: PeerIdentity::service(service)?,
            security: ArcSwap::from_pointee(Security::Plaintext),
            metrics: IdentityMetrics::default(),
        };
        Ok(Self(Arc::new(live)))
    }

    /// Proves it by other credentials from the next handshake on. Connections that are open are not disturbed.
    ///
    /// # Errors
    /// If the credentials prove someone else, or can't be used; nothing has changed then.
    pub fn replace(&self, credentials: Credentials) -> anyhow::Result<()> {
        ensure!(
            credentials.peer == self.0.peer,
            "the certificate is one of `{}`, not of `{}`",
            credentials.peer,
            self.0.peer
        );
        let tls = Tls::new(&credentials)?;
        self.0.metrics.proved(&credentials);
        self.0.metrics.rotated();
        self.0.security.store(Arc::new(Security::Tls(Proof { tls, credentials })));
        Ok(())
    }

    /// The service that it names.
    #[must_use]
    pub fn service(&self) -> &str {
        self.0.peer.service.as_str()
    }

    /// Whom others see.
    #[must_use]
    pub fn peer(&self) -> &PeerIdentity {
        &self.0.peer
    }

    /// When its certificate runs out; none without TLS.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        match &**self.0.security.load() {
            Security::Tls(proof) => Some(proof.credentials.validity.not_after),
            Security::Plaintext => None,
        }
    }

    /// What it is proved with now; none without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateView> {
        match &**self.0.security.load() {
            Security::Tls(proof) => CertificateView::of(&proof.credentials).ok(),
            Security::Plaintext => None,
        }
    }

    /// Shows when the certificate runs out, how often it was replaced and how often that failed.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.0.metrics.register(registry);
    }

    /// What the next connection is opened with; none without TLS.
    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        match &**self.0.security.load() {
            Security::Tls(proof) => Some(Arc::clone(&proof.tls.client)),
            Security::Plaintext => None,
        }
    }

    /// What the next connection is accepted with; none without TLS.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        match &**self.0.security.load() {
            Security::Tls(proof) => Some(Arc::clone(&proof.tls.server)),
            Security::Plaintext => None,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
