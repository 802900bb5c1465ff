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
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use std::sync::Arc;

/// The one protocol that is spoken.
pub(super) const ALPN: &[u8] = b"h2";

/// What one handshake is made with; replaced as a whole when anything of it changes.
pub(super) struct Tls {
    /// For connections that are opened.
    pub(super) client: Arc<ClientConfig>,
    /// For connections that are accepted.
    pub(super) server: Arc<ServerConfig>,
    /// The same where peers without a certificate are let in, to join: they know the roots by their fingerprints alone, and
    /// find them in the chain.
    pub(super) open_server: Arc<ServerConfig>,
    callees: Arc<WebPkiServerVerifier>,
    callers: Arc<dyn ClientCertVerifier>,
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
        let callees =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(&provider))
                .build()?;
        let verifier = || {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(&provider))
        };
        let callers = verifier().build()?;

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_webpki_verifier(Arc::clone(&callees))
            .with_client_auth_cert(chain.clone(), key.clone_key().into())
            .context("key and certificate don't match")?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();

        let server = |verifier, chain| {
            let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key.clone_key().into())
                .context("key and certificate don't match")?;
            server.alpn_protocols = vec![ALPN.to_vec()];
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            anyhow::Ok(Arc::new(server))
        };
        let with_roots = chain.iter().chain(roots).cloned().collect();
        let open_verifier = verifier().allow_unauthenticated().build()?;
        Ok(Self {
            client: Arc::new(client),
            server: server(Arc::clone(&callers), chain.clone())?,
            open_server: server(open_verifier, with_roots)?,
            callees,
            callers,
        })
    }

    /// Whether a new handshake would take what this peer showed in an earlier one.
    pub(super) fn would_trust(&self, peer: &Shown, now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = peer.chain.split_first() else { return false };
        let verified = match &peer.server_name {
            Some(name) => {
                self.callees.verify_server_cert(leaf, intermediates, name, &[], now).map(drop)
            }
            None => self.callers.verify_client_cert(leaf, intermediates, now).map(drop),
        };
        verified.is_ok()
    }
}

/// What a peer has shown when a connection was opened.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The name that it was called by; none if it is the one that calls.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// Named rather than taken from the process, where another crate may have put another one.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
