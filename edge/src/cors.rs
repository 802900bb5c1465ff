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
use crate::security;

/// What a page may send. `*` would cover neither `authorization` nor what is not listed by old browsers.
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, x-api-key, x-grpc-web, x-user-agent, grpc-timeout, grpc-encoding, \
     grpc-accept-encoding, connect-protocol-version, connect-timeout-ms, connect-content-encoding, \
     connect-accept-encoding, content-encoding, x-server-timeout, last-event-id, idempotency-key, \
     if-match, if-none-match, traceparent, tracestate",
);
const ALLOW_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// What a page may read beside the few headers that it always may, and beside what a service says.
const EXPOSE_HEADERS: &str = "grpc-status, grpc-message, grpc-status-details-bin, grpc-encoding, \
     connect-content-encoding, content-encoding, retry-after, www-authenticate, allow";
/// Headers that are not listed one by one: a page may read them anyway, or has no business with them.
const NOT_CUSTOM: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::VARY,
    header::DATE,
];
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
        // Also where every origin may: without one there is nothing to allow, and a cache must not give that to a page.
        let is_said = headers.get_all(header::VARY).iter().any(|value| {
            let names = value.to_str().unwrap_or_default().split(',');
            names.map(str::trim).any(|name| name.eq_ignore_ascii_case("origin"))
        });
        if !is_said {
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
        let exposed = exposed(headers);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The standing list, and what a service named itself. `*` would not do for requests with credentials.
fn exposed(headers: &HeaderMap) -> HeaderValue {
    let is_listed = |name: &str| EXPOSE_HEADERS.split(", ").any(|listed| listed == name);
    let custom = headers.keys().filter(|name| {
        !NOT_CUSTOM.contains(name)
            && !security::NAMES.contains(name)
            && !name.as_str().starts_with("access-control-")
            && !is_listed(name.as_str())
    });
    let list = custom.fold(EXPOSE_HEADERS.to_owned(), |list, name| list + ", " + name.as_str());
    HeaderValue::try_from(list).unwrap_or(HeaderValue::from_static(EXPOSE_HEADERS))
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
