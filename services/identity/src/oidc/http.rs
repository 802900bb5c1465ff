//! Small requests to a provider: bounded in time and size, no redirects, TLS 1.2 or 1.3 under the public roots.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// How long one request may take, its connection included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const BYTES_MAX: usize = 256 << 10;

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Http")
    }
}

impl Http {
    pub(super) fn new() -> anyhow::Result<Self> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// The body of an answer of 200.
    pub(super) async fn get(&self, uri: &Url) -> Result<Bytes, String> {
        match self.send(Request::get(target(uri)), uri, Bytes::new()).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(format!("{} answers {status}", uri.path())),
        }
    }

    /// Sends a form; `basic` is who we are, if it belongs into the header (RFC 6749, section 2.3.1).
    pub(super) async fn post_form(
        &self,
        uri: &Url,
        form: &str,
        basic: Option<(&str, &str)>,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request =
            Request::post(target(uri)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((id, secret)) = basic {
            let encode = |text: &str| -> String {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let both = format!("{}:{}", encode(id), encode(secret));
            request =
                request.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(both)));
        }
        self.send(request, uri, Bytes::copy_from_slice(form.as_bytes())).await
    }

    async fn send(
        &self,
        request: http::request::Builder,
        uri: &Url,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let sending = async {
            let host = uri.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_or_known_default().unwrap_or(443);
            let authority = &uri[url::Position::BeforeHost..url::Position::AfterPort];
            let request = request
                .header(HOST, authority)
                .header(ACCEPT, "application/json")
                .body(Full::new(body))?;
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            if uri.scheme() == "http" {
                return ask(tcp, request).await;
            }
            let name = ServerName::try_from(host)?;
            ask(TlsConnector::from(self.tls.clone()).connect(name, tcp).await?, request).await
        };
        match tokio::time::timeout(TIMEOUT, sending).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let error: anyhow::Error = error;
                tracing::warn!(
                    host = uri.host_str(),
                    error = format!("{error:#}"),
                    "a provider can't be asked"
                );
                Err(format!("{} can't be read", uri.path()))
            }
            Err(_) => Err(format!("{} takes longer than {} s", uri.path(), TIMEOUT.as_secs())),
        }
    }
}

fn target(uri: &Url) -> &str {
    &uri[url::Position::BeforePath..url::Position::AfterQuery]
}

async fn ask<T>(io: T, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut send, connection) = http1::handshake(TokioIo::new(io)).await?;
    let asked = async {
        let (head, body) = send.send_request(request).await?.into_parts();
        let body = Limited::new(body, BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer is cut: {error}"))?;
        Ok((head.status, body.to_bytes()))
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
