//! The name of a service, as certificates and access lists say it.

use super::TRUST_DOMAIN;
use anyhow::Context as _;
use anyhow::ensure;
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::GeneralName;
use x509_parser::prelude::X509Certificate;

/// The longest service name, in bytes: a DNS label's limit.
const NAME_BYTES_MAX: usize = 63;

/// A service's name: 1 to 63 of `a-z 0-9 -`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Reads a name.
    ///
    /// # Errors
    /// If it is not of the form above.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        ensure!(
            well_formed,
            "service name `{text}`: must be 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, beginning with a letter"
        );
        Ok(Self(text.into()))
    }

    /// The name that a certificate gives its holder: the one URI of our trust domain among its subject's alternative names.
    ///
    /// # Errors
    /// If the certificate can't be read, or names no service, or several.
    pub fn of_certificate(der: &[u8]) -> anyhow::Result<Self> {
        let (_, certificate) =
            X509Certificate::from_der(der).context("the certificate can't be read")?;
        let names = certificate
            .subject_alternative_name()
            .context("the certificate's alternative names can't be read")?
            .context("the certificate has no alternative names")?;
        let mut uris = names.value.general_names.iter().filter_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            Some(*uri)
        });
        let uri = uris.next().context("the certificate has no URI")?;
        // SPIFFE allows exactly one URI; a second one would let two readers see two identities.
        ensure!(uris.next().is_none(), "the certificate has more than one URI");
        Self::of_spiffe_id(uri)
    }

    /// Reads `spiffe://linkmesh/service/<name>`.
    ///
    /// # Errors
    /// If `uri` is of another form or trust domain.
    pub fn of_spiffe_id(uri: &str) -> anyhow::Result<Self> {
        let name = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(TRUST_DOMAIN))
            .and_then(|rest| rest.strip_prefix("/service/"))
            .with_context(|| format!("`{uri}` is not spiffe://{TRUST_DOMAIN}/service/<name>"))?;
        Self::parse(name)
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a SPIFFE id.
    #[must_use]
    pub fn spiffe_id(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/service/{}", self.0)
    }

    /// As a DNS name, for stock clients.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.linkmesh.internal", self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_from_its_spiffe_id() {
        let name = ServiceName::parse("links").unwrap();
        assert_eq!(name.spiffe_id(), "spiffe://linkmesh/service/links");
        assert_eq!(name.dns_name(), "links.linkmesh.internal");
        assert_eq!(ServiceName::of_spiffe_id(&name.spiffe_id()).unwrap(), name);
    }

    #[test]
    fn what_is_no_name_or_of_another_domain_is_refused() {
        for text in ["", "Links", "2links", "links.internal", "li/nks", &"a".repeat(64)] {
            assert!(ServiceName::parse(text).is_err(), "{text}");
        }
        for uri in [
            "spiffe://other/service/links",
            "spiffe://linkmesh/links",
            "spiffe://linkmesh.example/service/links",
            "https://linkmesh/service/links",
            "spiffe://linkmesh/service/",
            "spiffe://linkmesh/service/links/extra",
        ] {
            assert!(ServiceName::of_spiffe_id(uri).is_err(), "{uri}");
        }
    }
}
