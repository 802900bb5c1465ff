//! What browsers are allowed to do with answers: for pages of the configured origins, on errors as on anything else.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;

use crate::body::Body;

/// What a page may send. `*` would cover neither `authorization` nor what is not listed by old browsers.
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, x-api-key, x-grpc-web, x-user-agent, grpc-timeout, \
     x-server-timeout, last-event-id, traceparent, tracestate",
);
const ALLOW_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// What a page may read beside the few headers that it always may.
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "grpc-status, grpc-message, grpc-status-details-bin, retry-after, www-authenticate, allow",
);
/// How long, in seconds, a browser remembers a preflight's answer: the longest that they all honour.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may call.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    origins: Vec<HeaderValue>,
    any: bool,
}

impl Cors {
    /// Reads `https://app.example` or `*`.
    pub(crate) fn parse(origins: &[String]) -> Result<Self, service::ConfigError> {
        let read = origins.iter().map(|origin| {
            let is_origin = origin == "*"
                || origin.split_once("://").is_some_and(|(scheme, host)| {
                    !scheme.is_empty() && !host.is_empty() && !host.contains('/')
                });
            HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| {
                let why = format!("{origin:?} is no origin such as https://app.example");
                service::ConfigError::new("edge.cors_origins", why)
            })
        });
        let origins = read.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { any: origins.iter().any(|origin| origin == "*"), origins })
    }

    /// The answer to a preflight. An OPTIONS request without `access-control-request-method` is none.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let origin = headers.get(header::ORIGIN).cloned();
        self.allow(origin.as_ref(), response.headers_mut());
        if response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        Some(response)
    }

    /// Lets the page that asked read an answer, if its origin is allowed.
    pub(crate) fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if !self.any {
            headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
        }
        let Some(origin) = origin else { return };
        let allowed = if self.any {
            HeaderValue::from_static("*")
        } else if self.origins.contains(origin) {
            origin.clone()
        } else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
    }
}

/// Headers that belong to one connection, not to an answer.
pub(crate) const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
