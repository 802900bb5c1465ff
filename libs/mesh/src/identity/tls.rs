//! TLS 1.3 in both directions, for HTTP/2 alone.
//!
//! Sessions are never resumed, on either side: a resumed session takes over what an earlier handshake proved, so a
//! certificate that has run out since, or a root that nobody trusts any more, would live on in it. Connections are few and
//! last, so the full handshake costs nothing that is seen.

use super::Credentials;
use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use std::sync::Arc;

/// The one protocol that is spoken.
const ALPN: &[u8] = b"h2";

/// What one handshake is made with; replaced as a whole when anything of it changes.
#[derive(Debug)]
pub(super) struct Tls {
    /// For connections that are opened.
    pub(super) client: Arc<ClientConfig>,
    /// For connections that are accepted.
    pub(super) server: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new(credentials: &Credentials) -> anyhow::Result<Self> {
        let Credentials { key, chain, roots, .. } = credentials;
        let provider = provider();
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).context("a root can't be trusted")?;
        }
        let store = Arc::new(store);
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(&provider))
                .build()?;

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(&store))
            .with_client_auth_cert(chain.clone(), key.clone_key().into())
            .context("key and certificate don't match")?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(chain.clone(), key.clone_key().into())
            .context("key and certificate don't match")?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// Named rather than taken from the process, where another crate may have put another one.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
