//! The admin listener of a process: `/metrics`, `/livez`, `/readyz`, over HTTP/1.1, for machines near by.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::metrics::MetricsRegistry;
use crate::readiness::Readiness;

/// Connections at once: scrapers, probes, and a person or two.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to wait before accepting again when the system refuses (no file descriptors left, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the admin listener shows.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) registries: Vec<MetricsRegistry>,
    pub(crate) readiness: Readiness,
}

/// Serves until `stop`. Connections are closed then: no answer takes longer than a moment.
pub(crate) async fn serve(admin: Admin, listener: TcpListener, stop: CancellationToken) {
    let admin = Arc::new(admin);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener can't accept");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WAIT_MAX)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection broke");
            }
        });
    }
    connections.shutdown().await;
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => {
                let missing = self.readiness.missing();
                if missing.is_empty() {
                    return text(StatusCode::OK, "ok\n".to_owned());
                }
                let lines: String = missing.iter().map(|name| format!("{name}\n")).collect();
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready:\n{lines}"))
            }
            "/metrics" => {
                let mut response = text(StatusCode::OK, metrics::page(&self.registries));
                let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz\n".to_owned()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
