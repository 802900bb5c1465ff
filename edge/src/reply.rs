//! A whole answer on its way to a client: its validators, what the client knows already, its coding, and what caches may do with it.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::body::Body;
use crate::caching;
use crate::compression::ContentCoding;
use crate::conditional;
use crate::conditional::Version;
use crate::fault::Fault;

/// An answer, before it is known what the client takes of it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) media_type: HeaderValue,
    pub(crate) body: Bytes,
    pub(crate) cache_control: HeaderValue,
    /// The version that this is, if it can be asked for again under its path.
    pub(crate) version: Option<Version>,
    /// What a CDN forgets it by.
    pub(crate) keys: Option<HeaderValue>,
}

impl Reply {
    /// Answers a request with these headers. `is_read`: by GET or HEAD, which alone have conditions here.
    ///
    /// # Errors
    /// The client wanted another version.
    pub(crate) async fn answer(
        self,
        client: &HeaderMap,
        is_read: bool,
    ) -> Result<Response<Body>, Fault> {
        let coding = self.coding(client);
        let response = self.begin(client, is_read, coding)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        Ok(Self::finish(response, coding.compress(&self.body).await))
    }

    /// The coding that the client gets.
    pub(crate) fn coding(&self, client: &HeaderMap) -> ContentCoding {
        let media_type = self.media_type.to_str().unwrap_or_default();
        ContentCoding::chosen(client, media_type, self.body.len())
    }

    /// The answer without its body, or 304, which has none.
    pub(crate) fn begin(
        &self,
        client: &HeaderMap,
        is_read: bool,
        coding: ContentCoding,
    ) -> Result<Response<Body>, Fault> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, self.cache_control.clone());
        headers.insert(header::VARY, caching::VARY);
        if let Some(keys) = &self.keys {
            headers.insert(caching::SURROGATE_KEY, keys.clone());
        }
        if let Some(version) = &self.version {
            let tag = version.tag(coding);
            if is_read && !conditional::may_be_read(client, &tag) {
                return Err(Fault::precondition_failed());
            }
            let is_known = is_read && conditional::is_known(client, &tag);
            headers.insert(header::ETAG, tag);
            if is_known {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
        }
        headers.insert(header::CONTENT_TYPE, self.media_type.clone());
        if coding != ContentCoding::Identity {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }
        Ok(response)
    }

    /// The answer with its body, which is in the coding that it was begun with.
    pub(crate) fn finish(mut response: Response<Body>, body: Bytes) -> Response<Body> {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = Body::Whole(body);
        response
    }
}
