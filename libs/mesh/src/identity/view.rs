//! What an identity is proved with, for people: everything but the key.

use super::Credentials;
use super::Fingerprint;
use super::Validity;
use anyhow::Context as _;
use jiff::Timestamp;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// A certificate, and what is trusted beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    /// Whom it names, `spiffe://linkmesh/service/links`.
    pub spiffe_id: String,
    /// Who issued it.
    pub issuer: String,
    /// When it may be used.
    pub validity: Validity,
    /// SHA-256 of the root that it leads to; none if that is not a trusted one.
    pub root: Option<Fingerprint>,
    /// The roots that are trusted.
    pub roots: Vec<RootView>,
    /// Where certificates come from: `control:`, `file:…`.
    pub source: String,
    /// How often the certificate was replaced since the process started.
    pub rotations: u64,
    /// Why the last attempt to replace it failed; empty if it did not.
    pub last_failure: String,
}

/// What has become of an identity since the process started.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub(super) source: String,
    pub(super) rotations: u64,
    pub(super) last_failure: String,
}

/// A root that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootView {
    /// Whom it names.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Until when it may be used.
    pub not_after: Timestamp,
}

impl CertificateView {
    pub(super) fn of(credentials: &Credentials, history: History) -> anyhow::Result<Self> {
        let leaf = credentials.chain.first().context("there is no certificate")?;
        let (_, leaf) = X509Certificate::from_der(leaf)?;
        Ok(Self {
            spiffe_id: credentials.peer.spiffe_id().unwrap_or_default(),
            issuer: leaf.issuer().to_string(),
            validity: credentials.validity,
            root: credentials.root(),
            roots: credentials
                .roots
                .iter()
                .map(|root| RootView::of(root))
                .collect::<Result<_, _>>()?,
            source: history.source,
            rotations: history.rotations,
            last_failure: history.last_failure,
        })
    }
}

impl RootView {
    fn of(der: &[u8]) -> anyhow::Result<Self> {
        let (_, root) = X509Certificate::from_der(der)?;
        Ok(Self {
            subject: root.subject().to_string(),
            fingerprint: Fingerprint::of(der).to_string(),
            not_after: Validity::of_certificate(der)?.not_after,
        })
    }
}
