//! What an identity consists of: a key, the certificates that lead from it to a root, and the roots that are trusted.

use super::PeerIdentity;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
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
