//! TLS on the public port: a certificate and its key from two files, read again when they change. What can't be used changes
//! nothing: the old certificate goes on serving, and the log and a metric say why.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at: two calls of `stat`. Watching them would miss what Kubernetes does, which swaps a symbolic
/// link far above them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// HTTP/2 before HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate (with its intermediates) and its key are, both as PEM.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate first, then what leads to a root.
    pub certificate: PathBuf,
    /// PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// What the files looked like.
type Seen = [Option<(SystemTime, u64)>; 2];

impl TlsFiles {
    fn seen(&self) -> Seen {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn load(&self, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))
        };
        let chain = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is no PEM", self.certificate.display()))?;
        anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", self.certificate.display());
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .with_context(|| format!("{} holds no key", self.key.display()))?;
        CertifiedKey::from_der(chain, key, provider).context("certificate and key don't fit")
    }
}

/// How often the files were read again.
#[derive(Debug, Clone, Default)]
pub struct TlsMetrics {
    reloads: Family<Reload, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

impl TlsMetrics {
    /// The metrics of one listener.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Changed files of certificate and key, by what became of them";
        registry.register("edge_tls_reloads", help, metrics.reloads.clone());
        metrics
    }
}

/// A certificate in use.
pub struct Tls {
    files: TlsFiles,
    seen: Seen,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    metrics: TlsMetrics,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

struct Current(ArcSwap<CertifiedKey>);

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Files that can't be read, or a certificate and a key that don't fit.
    pub fn load(files: TlsFiles, metrics: TlsMetrics) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = files.seen();
        let current = files.load(&provider)?;
        let current = Arc::new(Current(ArcSwap::from_pointee(current)));
        Ok(Self { files, seen, current, provider, metrics })
    }

    /// What a listener takes connections with.
    ///
    /// # Errors
    /// None with the cryptography that is built in.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config).into())
    }

    /// Follows the files until `stop`. Handshakes after a change have the new certificate; connections keep theirs.
    ///
    /// # Errors
    /// None.
    pub async fn follow(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.look();
        }
        Ok(())
    }

    fn look(&mut self) {
        let seen = self.files.seen();
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        let result = match self.files.load(&self.provider) {
            Ok(loaded) => {
                self.current.0.store(Arc::new(loaded));
                tracing::info!("a new certificate serves the public port");
                "used"
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the new certificate can't be used; the old one serves on");
                "refused"
            }
        };
        self.metrics.reloads.get_or_create(&Reload { result }).inc();
    }
}
