//! What an identity consists of: a key, the certificates that lead from it to a root, and the roots that are trusted.

use super::Fingerprint;
use super::PeerIdentity;
use super::pem;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// How many roots may be trusted at once: the one that is left, the one that is used, the one that comes, and one to spare.
pub const ROOTS_MAX: usize = 4;

/// A key, the chain of certificates that vouches for it, and the trusted roots. The key can be read from here, but is in no
/// debug output.
pub struct Credentials {
    pub(super) peer: PeerIdentity,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    /// The leaf first, then intermediates; no root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) validity: Validity,
}

/// When a certificate may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl Validity {
    /// Of a certificate.
    ///
    /// # Errors
    /// If it can't be read, or its times are none.
    pub fn of_certificate(der: &[u8]) -> anyhow::Result<Self> {
        let (_, certificate) =
            X509Certificate::from_der(der).context("the certificate can't be read")?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp())?,
            not_after: Timestamp::from_second(validity.not_after.timestamp())?,
        })
    }
}

impl Credentials {
    /// Puts them together. Whether key and certificate belong together shows when they are first used.
    ///
    /// # Errors
    /// If the chain's first certificate names nobody, or there are no roots, or too many.
    pub fn new(
        key: PrivatePkcs8KeyDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> anyhow::Result<Self> {
        let leaf = chain.first().context("there is no certificate")?;
        ensure!(
            (1..=ROOTS_MAX).contains(&roots.len()),
            "{} roots are to be trusted, expected 1 to {ROOTS_MAX}",
            roots.len()
        );
        let peer = PeerIdentity::of_certificate(leaf)?;
        let validity = Validity::of_certificate(leaf)?;
        Ok(Self { peer, key, chain, roots, validity })
    }

    /// Whom they prove.
    #[must_use]
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// When the leaf is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The root that the chain leads to; none if it is not among the trusted ones.
    #[must_use]
    pub fn root(&self) -> Option<Fingerprint> {
        let (_, last) = X509Certificate::from_der(self.chain.last()?).ok()?;
        let root = self.roots.iter().find(|root| {
            let Ok((_, root)) = X509Certificate::from_der(root) else { return false };
            last.verify_signature(Some(root.public_key())).is_ok()
        })?;
        Some(Fingerprint::of(root))
    }

    /// The key and the chain, to be shown to peers; PEM.
    #[must_use]
    pub fn pem(&self) -> CredentialsPem {
        let text = |certificates: &[CertificateDer<'static>]| {
            certificates.iter().map(|der| pem::encode("CERTIFICATE", der)).collect()
        };
        CredentialsPem {
            key: pem::encode("PRIVATE KEY", self.key.secret_pkcs8_der()),
            chain: text(&self.chain),
            roots: text(&self.roots),
        }
    }

    /// Reads what [`pem`](Self::pem) has written, or another tool has.
    ///
    /// # Errors
    /// If a part is malformed, and as [`new`](Self::new).
    pub fn from_pem(pem: &CredentialsPem) -> anyhow::Result<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.key.as_bytes())
            .context("the key must be PKCS#8, PEM")?;
        let certificates = |text: &str| {
            CertificateDer::pem_slice_iter(text.as_bytes())
                .map(|certificate| certificate.context("certificates must be PEM"))
                .collect::<anyhow::Result<Vec<_>>>()
        };
        Self::new(key, certificates(&pem.chain)?, certificates(&pem.roots)?)
    }

    pub(super) fn with_roots(&self, roots: Vec<CertificateDer<'static>>) -> anyhow::Result<Self> {
        Self::new(self.key.clone_key(), self.chain.clone(), roots)
    }
}

/// Credentials as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsPem {
    /// The private key, PKCS#8.
    pub key: String,
    /// The leaf, then intermediates.
    pub chain: String,
    /// The trusted roots.
    pub roots: String,
}

impl fmt::Debug for CredentialsPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CredentialsPem").finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("peer", &self.peer)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}
