//! How one tells whether it is still the same instance that answers at an address: `HEAD /linkmesh/instance`.
//!
//! The mesh's server side answers it itself, to any peer, whatever it serves.

use anyhow::Context as _;
use anyhow::ensure;
use http::HeaderValue;
use http::Method;
use http::StatusCode;

const PATH: &str = "/linkmesh/instance";
const HEADER: &str = "linkmesh-instance";

/// The question.
pub(crate) fn request() -> anyhow::Result<http::Request<()>> {
    let uri = format!("https://linkmesh.internal{PATH}");
    Ok(http::Request::builder().method(Method::HEAD).uri(uri).body(())?)
}

/// Whether a request is the question.
pub(crate) fn is_asked<B>(request: &http::Request<B>) -> bool {
    request.method() == Method::HEAD && request.uri().path() == PATH
}

/// The answer.
pub(crate) fn response<B: Default>(instance: &HeaderValue) -> http::Response<B> {
    let mut response = http::Response::new(B::default());
    response.headers_mut().insert(HEADER, instance.clone());
    response
}

/// What was answered.
pub(crate) fn instance<B>(response: &http::Response<B>) -> anyhow::Result<String> {
    ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
    let instance = response.headers().get(HEADER).context("it does not name its instance")?;
    Ok(instance.to_str().context("its instance is not ASCII")?.to_owned())
}
