//! Certificates of the mesh's local authority as PEM, for those who are not the mesh: tonic and Envoy.

use anyhow::Context as _;
use mesh::LocalAuthority;
use rcgen::CertificateParams;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SanType;
use std::path::Path;

/// The authority's key and root, as [`LocalAuthority`] keeps them.
const AUTHORITY_FILE: &str = "authority.pem";

/// What a peer proves itself with, and whom it trusts.
#[derive(Debug, Clone)]
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) root: String,
}

/// The name under which a service's certificate is checked.
pub(crate) fn dns_name(service: &str) -> String {
    format!("{service}.linkmesh.internal")
}

/// Issues a certificate as the mesh's: the same kind of key, the same names.
pub(crate) fn issue(authority: &Path, service: &str) -> anyhow::Result<Pem> {
    LocalAuthority::open_or_create(authority)?;
    let text = std::fs::read_to_string(authority.join(AUTHORITY_FILE))?;
    let root = std::fs::read_to_string(LocalAuthority::root_file(authority))?;
    let end = text.find("-----BEGIN CERTIFICATE").context("the authority has a certificate")?;
    let issuer = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&text[..end])?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![dns_name(service)])?;
    let spiffe_id = format!("spiffe://{}/service/{service}", mesh::identity::TRUST_DOMAIN);
    params.subject_alt_names.push(SanType::URI(spiffe_id.try_into()?));
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pem { certificate, key: key.serialize_pem(), root })
}
