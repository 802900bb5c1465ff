//! Who is at the other end of a connection, as its certificate says.

use super::ServiceName;
use super::TRUST_DOMAIN;
use anyhow::Context as _;
use anyhow::ensure;
use std::fmt;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::GeneralName;
use x509_parser::prelude::X509Certificate;

/// The name under which an operator's command line calls.
pub const OPERATOR: &str = "operator";
/// The name of a peer that has proved nothing.
pub const ANONYMOUS: &str = "anonymous";

/// What a peer is, besides its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A service of the mesh: `spiffe://linkmesh/service/<name>`.
    Service,
    /// An operator who may do everything that operators may: `spiffe://linkmesh/operator/admin`.
    Admin,
    /// An operator who may look, and change nothing: `spiffe://linkmesh/operator/viewer`.
    Viewer,
    /// Nobody: a peer without a certificate, which is let in only where a process may join.
    Anonymous,
}

impl Role {
    /// The operators' roles, by the name that SPIFFE ids and command lines give them.
    pub const OPERATORS: [(&'static str, Self); 2] =
        [("admin", Self::Admin), ("viewer", Self::Viewer)];
}

/// The peer that calls or is called. In the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    /// The service's name; `operator` for operators.
    pub service: ServiceName,
    /// What it is.
    pub role: Role,
}

impl PeerIdentity {
    /// A service of the mesh.
    ///
    /// # Errors
    /// If `name` is no service name, or one of those that stand for something else.
    pub fn service(name: &str) -> anyhow::Result<Self> {
        ensure!(
            name != OPERATOR && name != ANONYMOUS,
            "`{name}` is not the name of a service: it stands for peers that are none"
        );
        Ok(Self { service: ServiceName::parse(name)?, role: Role::Service })
    }

    /// An operator.
    #[must_use]
    pub fn operator(role: Role) -> Self {
        assert!(matches!(role, Role::Admin | Role::Viewer), "the role of an operator");
        Self { service: ServiceName::fixed(OPERATOR), role }
    }

    /// A peer that has proved nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { service: ServiceName::fixed(ANONYMOUS), role: Role::Anonymous }
    }

    /// Whom a certificate names: the one URI among its subject's alternative names.
    ///
    /// # Errors
    /// If the certificate can't be read, or names nobody of our trust domain, or several.
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

    /// Reads `spiffe://linkmesh/service/<name>` or `spiffe://linkmesh/operator/<role>`.
    ///
    /// # Errors
    /// If `uri` is of another form or trust domain.
    pub fn of_spiffe_id(uri: &str) -> anyhow::Result<Self> {
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(TRUST_DOMAIN))
            .with_context(|| {
            format!("`{uri}` is not of the trust domain spiffe://{TRUST_DOMAIN}")
        })?;
        if let Some(name) = path.strip_prefix("/service/") {
            return Self::service(name).with_context(|| format!("`{uri}`"));
        }
        let role = path.strip_prefix("/operator/");
        let role = role.and_then(|name| {
            let known = Role::OPERATORS.into_iter().find(|(known, _)| *known == name);
            known.map(|(_, role)| role)
        });
        let role = role.with_context(|| {
            format!(
                "`{uri}` is neither spiffe://{TRUST_DOMAIN}/service/<name> nor …/operator/<role>"
            )
        })?;
        Ok(Self::operator(role))
    }

    /// As a SPIFFE id; none for a peer that has proved nothing.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<String> {
        let path = match self.role {
            Role::Service => format!("service/{}", self.service),
            Role::Admin => "operator/admin".to_owned(),
            Role::Viewer => "operator/viewer".to_owned(),
            Role::Anonymous => return None,
        };
        Some(format!("spiffe://{TRUST_DOMAIN}/{path}"))
    }
}

/// `links`, `operator/viewer`: as metrics, logs and refusals say it.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Service | Role::Anonymous => fmt::Display::fmt(&self.service, formatter),
            Role::Admin => formatter.write_str("operator/admin"),
            Role::Viewer => formatter.write_str("operator/viewer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_who_has_a_spiffe_id_reads_back_from_it() {
        let everyone = [
            (PeerIdentity::service("links").unwrap(), "spiffe://linkmesh/service/links"),
            (PeerIdentity::operator(Role::Admin), "spiffe://linkmesh/operator/admin"),
            (PeerIdentity::operator(Role::Viewer), "spiffe://linkmesh/operator/viewer"),
        ];
        for (peer, uri) in everyone {
            assert_eq!(peer.spiffe_id().as_deref(), Some(uri));
            assert_eq!(PeerIdentity::of_spiffe_id(uri).unwrap(), peer);
        }
        assert_eq!(PeerIdentity::anonymous().spiffe_id(), None);
    }

    #[test]
    fn what_names_nobody_or_is_of_another_domain_is_refused() {
        for uri in [
            "spiffe://other/service/links",
            "spiffe://linkmesh/links",
            "spiffe://linkmesh.example/service/links",
            "https://linkmesh/service/links",
            "spiffe://linkmesh/service/",
            "spiffe://linkmesh/service/links/extra",
            "spiffe://linkmesh/service/operator",
            "spiffe://linkmesh/service/anonymous",
            "spiffe://linkmesh/operator/root",
            "spiffe://linkmesh/operator/",
            "spiffe://linkmesh/operator/admin/",
        ] {
            assert!(PeerIdentity::of_spiffe_id(uri).is_err(), "{uri}");
        }
    }
}
