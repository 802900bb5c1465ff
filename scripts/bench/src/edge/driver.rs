//! The client of all sides: `h2load`, with the same connections over HTTP/1.1 and HTTP/2.

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http::StatusCode;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// Requests in flight: over HTTP/1.1 each on a connection of its own.
const IN_FLIGHT: u32 = 32;
/// Over HTTP/2, so many of them share a connection.
const STREAMS: u32 = 8;
/// How long a request may take that is made only once.
const ASK_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A request that is made again and again.
#[derive(Debug, Clone)]
pub(super) struct Request {
    path: String,
    version: Version,
    headers: Vec<String>,
    /// A body makes it a POST.
    body: Option<Arc<NamedTempFile>>,
}

impl Request {
    pub(super) fn get(path: String, version: Version) -> Self {
        Self { path, version, headers: Vec::new(), body: None }
    }

    pub(super) fn post(path: String, version: Version) -> Self {
        Self::get(path, version)
    }

    pub(super) fn body(mut self, media_type: &str, body: &[u8]) -> anyhow::Result<Self> {
        let mut file = NamedTempFile::new()?;
        file.write_all(body)?;
        self.body = Some(Arc::new(file));
        Ok(self.header(&format!("content-type: {media_type}")))
    }

    pub(super) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    /// The same, to a server.
    pub(super) fn at(mut self, base: &str) -> Self {
        self.path.insert_str(0, base);
        self
    }
}

/// Keeps requests in flight for so long, and says how many were answered with success.
pub(super) async fn drive(request: &Request, seconds: u32) -> anyhow::Result<f64> {
    let (clients, streams) = match request.version {
        Version::Http1 => (IN_FLIGHT, 1),
        Version::Http2 => (IN_FLIGHT / STREAMS, STREAMS),
    };
    let mut command = Command::new("h2load");
    command
        .args(["-t", "1", "-D", &seconds.to_string(), "-c", &clients.to_string()])
        .args(["-m", &streams.to_string()]);
    if request.version == Version::Http1 {
        command.arg("--h1");
    }
    for header in &request.headers {
        command.args(["-H", header]);
    }
    if let Some(body) = &request.body {
        command.arg("-d").arg(body.path());
    }
    let output = command.arg(&request.path).output();
    let output =
        output.await.context("h2load does not start; install it with `scripts/setup.sh bench`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answered = answered(&text).with_context(|| format!("h2load printed: {text}"))?;
    anyhow::ensure!(output.status.success() && answered > 0.0, "h2load: {text}");
    Ok(answered)
}

/// What one request over HTTP/1.1 is answered, if with 200.
pub(super) async fn ask(request: &Request) -> anyhow::Result<Bytes> {
    let body = request.body.as_ref().map(|body| std::fs::read(body.path())).transpose()?;
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut asked = http::Request::builder().method(method).uri(&request.path);
    for header in &request.headers {
        let (name, value) = header.split_once(": ").context("a header has a name")?;
        asked = asked.header(name, value);
    }
    let asked = asked.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let whole = async {
        let answer = client.request(asked).await?;
        let status = answer.status();
        anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(ASK_WAIT_MAX, whole).await??;
    anyhow::ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// Of `status codes: 1234 2xx, 0 3xx, 0 4xx, 0 5xx`, the first; none if another was answered.
fn answered(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let mut counts = line.split(", ").map(|part| {
        let (count, _) = part.split_once(' ')?;
        count.parse::<f64>().ok()
    });
    let answered = counts.next()??;
    counts.all(|other| other == Some(0.0)).then_some(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_an_answer() {
        let report = |codes: &str| format!("requests: 7 total\nstatus codes: {codes}\n");
        assert_eq!(answered(&report("7 2xx, 0 3xx, 0 4xx, 0 5xx")), Some(7.0));
        assert_eq!(answered(&report("7 2xx, 0 3xx, 1 4xx, 0 5xx")), None);
        assert_eq!(answered("nothing"), None);
    }
}
