//! A key that issues certificates, and the chain that leads from it to a root.

use super::certificate;
use crate::identity::CertificateRequest;
use crate::identity::Fingerprint;
use crate::identity::PeerIdentity;
use crate::identity::Validity;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::time::Duration;
use std::time::SystemTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// Issues certificates. Its key is in no debug output.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// From the issuer up, without the root.
    chain: Vec<CertificateDer<'static>>,
    root: Fingerprint,
    not_after: Timestamp,
    /// Whether it may have an intermediate below it.
    may_delegate: bool,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Signer")
            .field("root", &self.root)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// One whose certificate is `certificate`; a root itself, or an intermediate of `root`.
    pub(super) fn new(
        key: KeyPair,
        certificate: &CertificateDer<'static>,
        root: &CertificateDer<'static>,
    ) -> anyhow::Result<Self> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).context("its certificate can't be read")?;
        ensure!(
            parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw(),
            "its key does not belong to its certificate"
        );
        let constraints = parsed.basic_constraints()?.context("its certificate may not issue")?;
        ensure!(constraints.value.ca, "its certificate may not issue");
        let may_delegate = constraints.value.path_len_constraint.is_none_or(|below| below > 0);
        let (_, trusted) = X509Certificate::from_der(root).context("the root can't be read")?;
        parsed
            .verify_signature(Some(trusted.public_key()))
            .context("its certificate was not issued by the root")?;
        let is_root = certificate == root;
        Ok(Self {
            not_after: Validity::of_certificate(certificate)?.not_after,
            chain: if is_root { Vec::new() } else { vec![certificate.clone()] },
            issuer: Issuer::from_ca_cert_der(certificate, key)
                .context("its certificate can't issue")?,
            root: Fingerprint::of(root),
            may_delegate,
        })
    }

    /// An intermediate of this one, with a key that is nowhere but in this process.
    ///
    /// # Errors
    /// If this one may not have any.
    pub fn delegate(&self, now: Timestamp, life: Duration) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("making a key")?;
        let certificate = self.delegate_to(&key, now, life)?;
        let mut chain = vec![certificate.clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(Self {
            not_after: Validity::of_certificate(&certificate)?.not_after,
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            chain,
            root: self.root,
            may_delegate: false,
        })
    }

    pub(super) fn delegate_to(
        &self,
        key: &KeyPair,
        now: Timestamp,
        life: Duration,
    ) -> anyhow::Result<CertificateDer<'static>> {
        ensure!(
            self.may_delegate,
            "{} may not have intermediates: its basic constraints forbid it",
            self.root
        );
        let mut params = certificate::intermediate(now, life)?;
        params.not_after = params.not_after.min(SystemTime::from(self.not_after).into());
        let certificate = params.signed_by(key, &self.issuer).context("signing an issuer")?;
        Ok(certificate.der().clone())
    }

    /// The certificate of `peer` for the key that `request` proved, and the chain above it. It does not outlive the issuer's.
    ///
    /// # Errors
    /// If the issuer's own certificate has run out.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        peer: &PeerIdentity,
        life: Duration,
        now: Timestamp,
    ) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        ensure!(now < self.not_after, "the issuer's certificate ran out at {}", self.not_after);
        let mut params = certificate::leaf(peer, now, life)?;
        params.not_after = params.not_after.min(SystemTime::from(self.not_after).into());
        let leaf =
            params.signed_by(&request.public_key, &self.issuer).context("signing a certificate")?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(chain)
    }

    /// Whether it is a root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.chain.is_empty()
    }

    /// Whether it is to have an intermediate that issues in its place: a root is used as rarely as can be.
    #[must_use]
    pub fn may_delegate(&self) -> bool {
        self.may_delegate
    }

    /// Until when it can issue.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The root that its certificates lead to.
    #[must_use]
    pub fn root(&self) -> Fingerprint {
        self.root
    }
}
