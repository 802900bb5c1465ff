//! TLS 1.3 in both directions, for HTTP/2 alone.

use super::Identity;
use super::Security;
use super::ServiceName;
use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use std::sync::Arc;

/// The one protocol that is spoken.
const ALPN: &[u8] = b"h2";

pub(super) fn identity(
    service: ServiceName,
    root: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
) -> anyhow::Result<Identity> {
    // Named rather than taken from the process, where another crate may have put another one.
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).context("the root can't be trusted")?;
    let roots = Arc::new(roots);

    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain.clone(), key.clone_key().into())
        .context("key and certificate don't match")?;
    client.alpn_protocols = vec![ALPN.to_vec()];

    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.into())
        .context("key and certificate don't match")?;
    server.alpn_protocols = vec![ALPN.to_vec()];

    let security = Security::Tls { client: Arc::new(client), server: Arc::new(server) };
    Ok(Identity { service, security })
}
