//! Who a service is: a key, a certificate that names it, and the roots that vouch for the others.
//!
//! An identity belongs to a service, not to a process. Its certificate names `spiffe://linkmesh/service/<name>`, and
//! `<name>.linkmesh.internal` for stock clients. What proves it rotates under the handle: each handshake takes what is
//! there at that moment, and a connection lasts as long as a new handshake would succeed.

mod authority;
mod control;
mod credentials;
mod fingerprint;
mod issuer;
mod issuing;
mod join_token;
mod joining;
mod kept;
mod metrics;
mod name;
mod peer;
pub mod pem;
mod request;
mod schedule;
mod tls;
mod trust;
mod view;

pub use authority::CLOCK_SKEW_MAX;
pub use authority::LEAF_LIFE_DEFAULT;
pub use authority::LocalAuthority;
pub use authority::Rotation;
pub use authority::Signer;
pub use credentials::Credentials;
pub use credentials::CredentialsPem;
pub use credentials::ROOTS_MAX;
pub use credentials::Validity;
pub use fingerprint::Fingerprint;
pub use issuer::Credential;
pub use issuer::Issuer;
pub use issuer::Root;
pub use issuing::Issuing;
pub use join_token::JoinToken;
pub use name::ServiceName;
pub use peer::ANONYMOUS;
pub use peer::OPERATOR;
pub use peer::PeerIdentity;
pub use peer::Role;
pub use request::CertificateRequest;
pub use request::NewKey;
pub use view::CertificateView;
pub use view::RootView;

use anyhow::ensure;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::IdentityMetrics;
use prometheus_client::registry::Registry as MetricsRegistry;
use rustls::ClientConfig;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tls::Tls;
use tokio::sync::watch;
use view::History;

/// The trust domain of every identity.
pub const TRUST_DOMAIN: &str = "linkmesh";

/// What a service proves itself with. Cheap to clone: all clones are the same identity, and rotate together.
#[derive(Clone)]
pub struct Identity(Arc<Live>);

struct Live {
    peer: PeerIdentity,
    security: ArcSwap<Security>,
    /// Counts what was stored there, for whoever asks whether that changed anything.
    changed: watch::Sender<u64>,
    metrics: IdentityMetrics,
    history: Mutex<History>,
}

/// What a handshake is made with.
enum Security {
    /// Both sides prove who they are.
    Tls(Box<Proof>),
    /// Only the callee does: the caller has no certificate yet, and asks for one.
    Joining(Arc<ClientConfig>),
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
        let proof = Proof { tls: Tls::new(&credentials)?, credentials };
        let identity = Self::with_security(peer, Security::Tls(Box::new(proof)));
        identity.publish();
        Ok(identity)
    }

    /// Nobody yet: for the call by which a process joins, to who leads to one of the roots `pins`. Nothing else is open to it.
    ///
    /// # Errors
    /// If there are no pins.
    pub fn anonymous(pins: &[Fingerprint]) -> anyhow::Result<Self> {
        let client = Arc::new(joining::client(pins)?);
        Ok(Self::with_security(PeerIdentity::anonymous(), Security::Joining(client)))
    }

    /// An identity without TLS that takes every peer for a service of its own name. For the bench, which compares with a bare
    /// channel; nothing that is configured leads here.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn plaintext_for_bench(service: &str) -> anyhow::Result<Self> {
        Ok(Self::with_security(PeerIdentity::service(service)?, Security::Plaintext))
    }

    fn with_security(peer: PeerIdentity, security: Security) -> Self {
        Self(Arc::new(Live {
            peer,
            security: ArcSwap::from_pointee(security),
            changed: watch::Sender::default(),
            metrics: IdentityMetrics::default(),
            history: Mutex::default(),
        }))
    }

    /// Proves it by other credentials from the next handshake on. Connections that are open are not disturbed, unless a new
    /// handshake would not trust their peers any more.
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
        ensure!(
            credentials.root().is_some(),
            "the certificate leads to none of the roots that it came with"
        );
        self.store(credentials)?;
        self.0.metrics.rotated();
        let mut history = self.history();
        history.rotations += 1;
        history.last_failure.clear();
        Ok(())
    }

    /// Trusts these roots from now on; what it then consists of, if they are others than before.
    fn trust(&self, roots: Vec<CertificateDer<'static>>) -> anyhow::Result<Option<Credentials>> {
        let present = self.0.security.load_full();
        let Security::Tls(proof) = &*present else { return Ok(None) };
        if proof.credentials.roots == roots {
            return Ok(None);
        }
        let credentials = proof.credentials.with_roots(roots)?;
        self.store(proof.credentials.with_roots(credentials.roots.clone())?)?;
        Ok(Some(credentials))
    }

    fn store(&self, credentials: Credentials) -> anyhow::Result<()> {
        let proof = Proof { tls: Tls::new(&credentials)?, credentials };
        self.0.security.store(Arc::new(Security::Tls(Box::new(proof))));
        self.publish();
        self.0.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn publish(&self) {
        if let Security::Tls(proof) = &**self.0.security.load() {
            self.0.metrics.proved(&proof.credentials);
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        self.0.metrics.failed();
        let mut history = self.history();
        // That it fails is news, and why; that it still does isn't.
        if history.last_failure != text {
            let not_after = self.validity().not_after;
            tracing::warn!(%not_after, error = text, "the certificate is not renewed; trying on");
            history.last_failure = text;
        }
    }

    fn issued_by(&self, issuer: &Issuer) {
        self.history().source = issuer.to_string();
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What it is proved with now, as an operator sees it; none without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateView> {
        match &**self.0.security.load() {
            Security::Tls(proof) => {
                CertificateView::of(&proof.credentials, self.history().clone()).ok()
            }
            Security::Joining(_) | Security::Plaintext => None,
        }
    }

    /// Shows when the certificate runs out, how often it was replaced and how often that failed.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.0.metrics.register(registry);
    }

    /// When its certificate is valid; for ever, if it has none.
    fn validity(&self) -> Validity {
        match &**self.0.security.load() {
            Security::Tls(proof) => proof.credentials.validity,
            Security::Joining(_) | Security::Plaintext => {
                Validity { not_before: Timestamp::MIN, not_after: Timestamp::MAX }
            }
        }
    }

    /// The root that its certificate leads to.
    fn root(&self) -> Option<Fingerprint> {
        match &**self.0.security.load() {
            Security::Tls(proof) => proof.credentials.root(),
            Security::Joining(_) | Security::Plaintext => None,
        }
    }

    /// What the next connection is opened with; none without TLS.
    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        match &**self.0.security.load() {
            Security::Tls(proof) => Some(Arc::clone(&proof.tls.client)),
            Security::Joining(client) => Some(Arc::clone(client)),
            Security::Plaintext => None,
        }
    }

    /// What the next connection is accepted with; none without TLS. `open`: peers without a certificate are let in.
    pub(crate) fn server(&self, open: bool) -> Option<Arc<ServerConfig>> {
        match &**self.0.security.load() {
            Security::Tls(proof) if open => Some(Arc::clone(&proof.tls.open_server)),
            Security::Tls(proof) => Some(Arc::clone(&proof.tls.server)),
            Security::Joining(_) => unreachable!("a server refuses to be anonymous"),
            Security::Plaintext => None,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
