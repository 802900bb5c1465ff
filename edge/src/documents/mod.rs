//! What the edge says of its API: the OpenAPI document, made of the descriptors, and a page that shows it.
//!
//! Both are the same for everyone: made once, the document with each contract, and coded once for each coding.

mod openapi;

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use tokio::sync::OnceCell;
use transcode::RouteTable;

use crate::body::Body;
use crate::caching;
use crate::compression::ContentCoding;
use crate::conditional::Version;
use crate::contract::Contract;
use crate::fault::Fault;
use crate::protocols::Methods;
use crate::reply::Reply;

/// The page. It is no slug: `links` keeps the word for us.
pub(crate) const PAGE_PATH: &str = "/docs";
const OPENAPI_PATH: &str = "/v1/openapi.json";
/// Where they are. No route leads there.
pub(crate) const PATHS: [&str; 2] = [OPENAPI_PATH, PAGE_PATH];
/// They change when the edge does, or its contract.
const CACHE_CONTROL: HeaderValue =
    HeaderValue::from_static("public, max-age=300, stale-while-revalidate=86400");

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

static PAGE: LazyLock<Document> = LazyLock::new(|| {
    let html = HTML.replace("/*CSS*/", CSS).replace("/*JS*/", JS);
    Document::new(PAGE_PATH, "text/html; charset=utf-8", html, Some(policy()))
});

/// A document that never changes.
#[derive(Debug)]
pub(crate) struct Document {
    /// Under which it is counted.
    pub(crate) path: &'static str,
    reply: Reply,
    /// By the order of [`ContentCoding::ALL`].
    coded: [OnceCell<Bytes>; ContentCoding::ALL.len()],
    policy: Option<HeaderValue>,
}

/// The document under a path.
pub(crate) fn find<'c>(path: &str, contract: &'c Contract) -> Option<&'c Document> {
    match path {
        OPENAPI_PATH => Some(&contract.openapi),
        PAGE_PATH => Some(&PAGE),
        _ => None,
    }
}

/// Makes the page, so that no request waits for that.
pub(crate) fn load() {
    LazyLock::force(&PAGE);
}

/// The OpenAPI document of the public API, as `proto/` has it.
#[must_use]
pub fn openapi() -> Value {
    let json = &Contract::built_in().openapi.reply.body;
    serde_json::from_slice(json).expect("it was written as JSON")
}

/// The OpenAPI document of a contract.
pub(crate) fn openapi_of(
    routes: &RouteTable,
    methods: &Methods,
    pool: &DescriptorPool,
) -> Document {
    let json = openapi::document(routes, methods, pool).to_string();
    Document::new(OPENAPI_PATH, "application/json", json, None)
}

impl Document {
    fn new(
        path: &'static str,
        media_type: &'static str,
        body: String,
        policy: Option<HeaderValue>,
    ) -> Self {
        let reply = Reply {
            media_type: HeaderValue::from_static(media_type),
            version: Some(Version::of(body.as_bytes(), None)),
            body: body.into(),
            cache_control: CACHE_CONTROL,
            keys: caching::keys(path),
        };
        Self { path, reply, coded: Default::default(), policy }
    }

    /// Answers a request for it.
    ///
    /// # Errors
    /// Another method than GET and HEAD, or a condition that does not hold.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        client: &HeaderMap,
    ) -> Result<Response<Body>, Fault> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Fault::method_not_allowed("GET, HEAD"));
        }
        let coding = self.reply.coding(client);
        let mut response = self.reply.begin(client, true, coding)?;
        if let Some(policy) = &self.policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        Ok(Reply::finish(response, self.body(coding).await))
    }

    async fn body(&self, coding: ContentCoding) -> Bytes {
        let plain = &self.reply.body;
        match ContentCoding::ALL.iter().position(|other| *other == coding) {
            None => plain.clone(),
            Some(at) => self.coded[at].get_or_init(|| coding.compress(plain)).await.clone(),
        }
    }
}

/// What the page may do: run its own script under its own style, and read the document. Nobody may frame it.
fn policy() -> HeaderValue {
    let hash = |text: &str| {
        BASE64_STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    };
    let text = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(JS),
        hash(CSS),
    );
    HeaderValue::try_from(text).expect("base64 and words make a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for text in [HTML, CSS, JS] {
            assert!(!text.contains("http:") && !text.contains("https:"), "it would need a network");
        }
        for unsafe_word in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!JS.contains(unsafe_word), "{unsafe_word}: the document is shown as text");
        }
        assert!(!HTML.contains("style=") && !HTML.contains("onclick"), "the policy forbids both");
        let page = std::str::from_utf8(&PAGE.reply.body).expect("text");
        assert!(page.contains(CSS) && page.contains(JS));
    }
}
