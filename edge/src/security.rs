//! What keeps a browser from doing with an answer what it is not for. Redirects only ask for TLS where there is TLS: what they said of
//! referrers would hold for the page that they lead to.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

/// A type is what it says.
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// Paths hold names of resources, which are nobody else's business.
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
/// An answer that is opened as a page is none: it runs and loads nothing, and is in no frame.
const NOT_A_PAGE: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// A year, of this host alone: what else its domain serves is not ours to promise.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The names of what is added, which no page has to read.
pub(crate) const NAMES: [HeaderName; 4] = [
    header::X_CONTENT_TYPE_OPTIONS,
    header::REFERRER_POLICY,
    header::CONTENT_SECURITY_POLICY,
    header::STRICT_TRANSPORT_SECURITY,
];

/// Adds them to an answer. gRPC's own clients are no browsers.
pub(crate) fn add(headers: &mut HeaderMap, is_tls: bool) {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind == b"application/grpc" || kind.starts_with(b"application/grpc+") {
        return;
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOT_A_PAGE);
    if is_tls {
        require_tls(headers);
    }
}

/// Has a browser come by TLS alone, for redirects too: a link that is followed without it can be read, and led elsewhere.
pub(crate) fn require_tls(headers: &mut HeaderMap) {
    headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_depends_on_tls_and_on_what_the_answer_is() {
        let said = |kind: &'static str, is_tls| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            add(&mut headers, is_tls);
            NAMES.map(|name| headers.contains_key(name))
        };
        assert_eq!(said("application/json", true), [true; 4]);
        assert_eq!(said("application/json", false), [true, true, true, false]);
        assert_eq!(said("application/grpc-web+proto", true), [true; 4]);
        assert_eq!(said("application/grpc", true), [false; 4]);
        assert_eq!(said("application/grpc+json", true), [false; 4]);
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("default-src 'self'");
        headers.insert(header::CONTENT_SECURITY_POLICY, own.clone());
        add(&mut headers, false);
        assert_eq!(headers.get(header::CONTENT_SECURITY_POLICY), Some(&own), "a page has its own");
    }
}
