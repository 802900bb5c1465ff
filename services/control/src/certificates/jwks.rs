//! The public keys of a cluster, a JSON Web Key Set: from a file, or from the API server, remembered for a while.
//!
//! A key that is not known is looked for at once, since clusters rotate theirs, but not more often than every few seconds, whoever
//! asks: anyone may show a token with a made-up key.

use anyhow::Context as _;
use anyhow::ensure;
use bytes::Bytes;
use http::StatusCode;
use http::Uri;
use http::header::ACCEPT;
use http::header::AUTHORIZATION;
use http::header::HOST;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::JwkSet;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// How long keys are used before they are read again.
const FRESH: Duration = Duration::from_secs(300);
/// How long they are used when they can't be read again.
const STALE_MAX: Duration = Duration::from_hours(24);
/// How often they are read at most.
const READ_EVERY: Duration = Duration::from_secs(5);
/// How long one reading may take.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// The longest set, in bytes.
const BYTES_MAX: usize = 256 << 10;
/// The most keys in one.
const KEYS_MAX: usize = 64;

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Url(Uri),
}

impl Source {
    /// Reads a path, an `https:` URL, or an `http:` URL of this machine.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(!text.is_empty(), "is empty");
        if !text.contains("://") {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let uri: Uri = text.parse().with_context(|| format!("`{text}` is no URL"))?;
        let host = uri.host().with_context(|| format!("`{text}` names no host"))?;
        // Keys that come in the clear could be anyone's.
        let is_here =
            host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let secure = uri.scheme_str() == Some("https");
        ensure!(
            secure || (uri.scheme_str() == Some("http") && is_here),
            "`{text}`: must be a file's path or an https URL"
        );
        Ok(Self::Url(uri))
    }
}

/// Keys that are remembered.
#[derive(Debug)]
pub(super) struct Jwks {
    source: Source,
    root: Option<PathBuf>,
    token: Option<PathBuf>,
    /// Held while they are read: whoever asks meanwhile waits for the same answer.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<JwkSet>,
    read: Option<Instant>,
    tried: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(source: Source, root: Option<PathBuf>, token: Option<PathBuf>) -> Self {
        Self { source, root, token, known: Mutex::default() }
    }

    /// The key of that id; none if the cluster has none such.
    pub(super) async fn find(&self, kid: &str) -> anyhow::Result<Option<Jwk>> {
        let mut known = self.known.lock().await;
        let now = Instant::now();
        let within = |time: Option<Instant>, wait| time.is_some_and(|time| now < time + wait);
        let found = known.keys.as_ref().and_then(|keys| keys.find(kid).cloned());
        let is_fresh = within(known.read, FRESH);
        if (found.is_some() && is_fresh) || within(known.tried, READ_EVERY) {
            ensure!(known.keys.is_some(), "they could not be read a moment ago");
            return Ok(found.filter(|_| within(known.read, STALE_MAX)));
        }
        known.tried = Some(now);
        let reading = tokio::time::timeout(READ_WAIT_MAX, self.read()).await;
        match reading.context("it takes too long").flatten() {
            Ok(keys) => {
                let found = keys.find(kid).cloned();
                (known.keys, known.read) = (Some(keys), Some(now));
                Ok(found)
            }
            // What was known goes on for a while.
            Err(error) if found.is_some() && within(known.read, STALE_MAX) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the cluster's keys are not read again"
                );
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self) -> anyhow::Result<JwkSet> {
        let bytes = match &self.source {
            Source::File(path) => {
                let reading = || format!("reading {}", path.display());
                Bytes::from(tokio::fs::read(path).await.with_context(reading)?)
            }
            Source::Url(uri) => self.fetch(uri).await.with_context(|| format!("asking {uri}"))?,
        };
        ensure!(bytes.len() <= BYTES_MAX, "they have more than {BYTES_MAX} bytes");
        let keys: JwkSet = serde_json::from_slice(&bytes).context("they are no JWKS")?;
        ensure!(keys.keys.len() <= KEYS_MAX, "they are more than {KEYS_MAX}");
        Ok(keys)
    }

    async fn fetch(&self, uri: &Uri) -> anyhow::Result<Bytes> {
        let host = uri.host().context("it names no host")?.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        if !secure {
            return self.ask(tcp, uri).await;
        }
        let root = self.root.as_ref().context("control.kubernetes.jwks_root is not set")?;
        let text =
            tokio::fs::read(root).await.with_context(|| format!("reading {}", root.display()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        self.ask(tls, uri).await
    }

    async fn ask<T>(&self, io: T, uri: &Uri) -> anyhow::Result<Bytes>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let authority = uri.authority().context("it names no host")?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = http::Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/jwk-set+json, application/json");
        if let Some(path) = &self.token {
            let token = tokio::fs::read_to_string(path)
                .await
                .with_context(|| format!("reading {}", path.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let (mut send, connection) = http1::handshake(TokioIo::new(io)).await?;
        let asked = async {
            let response = send.send_request(request.body(Empty::<Bytes>::new())?).await?;
            ensure!(response.status() == StatusCode::OK, "the answer is {}", response.status());
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
            Ok(body.map_err(|error| anyhow::anyhow!("the answer is cut: {error}"))?.to_bytes())
        };
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => answer,
            // What it has brought may not be taken yet.
            ended = connection => match ended {
                Ok(()) => asked.await,
                Err(error) => Err(error.into()),
            },
        }
    }
}
