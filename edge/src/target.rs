//! What a slug leads to, prepared so that a redirect copies and decides, and parses nothing.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::StatusCode;
use prost::Message as _;
use proto::links::v1::Route;
use proto::links::v1::UtmParameters;

/// The longest slug there is.
pub(crate) const SLUG_BYTES_MAX: usize = 64;

/// A link, ready to be redirected to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) link_id: [u8; 16],
    pub(crate) workspace_id: [u8; 16],
    pub(crate) status: StatusCode,
    location: Location,
    expired_location: Option<Location>,
    is_enabled: bool,
    forwards_query: bool,
    expire_micros: i64,
    /// The link's own parameters in the order of [`UTM_NAMES`]; empty where it has none.
    pub(crate) utm: [Vec<u8>; 5],
    /// As it came, for L2.
    encoded: Bytes,
}

/// The names of the parameters, in the order of `UtmParameters`' and `Click`'s fields.
pub(crate) const UTM_NAMES: [&str; 5] =
    ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"];

#[derive(Debug, Clone)]
struct Location {
    header: HeaderValue,
    /// Where a query is inserted, before the fragment, and whether there is one already.
    query_at: usize,
    has_query: bool,
}

/// What a link says to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Redirect(HeaderValue),
    Disabled,
    Expired,
}

/// Why a route can't be used: a fault of its writer, which has checked all of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the route can't be used: {0}")]
pub(crate) struct RouteError(&'static str);

impl Target {
    pub(crate) fn new(route: &Route) -> Result<Self, RouteError> {
        let id = |bytes: &[u8]| {
            <[u8; 16]>::try_from(bytes).map_err(|_| RouteError("an id has not 16 bytes"))
        };
        let status = match route.status {
            301 | 302 | 307 | 308 => u16::try_from(route.status).ok(),
            _ => None,
        };
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let expired_location = match route.expired_destination_uri.as_str() {
            "" => None,
            uri => Some(Location::new(uri)?),
        };
        let none = UtmParameters::default();
        let utm = route.utm.as_ref().unwrap_or(&none);
        Ok(Self {
            link_id: id(&route.link_id)?,
            workspace_id: id(&route.workspace_id)?,
            status: status.ok_or(RouteError("its status is not 301, 302, 307 or 308"))?,
            location: Location::new(&route.destination_uri)?,
            expired_location,
            is_enabled: route.enabled,
            forwards_query: route.forward_query,
            expire_micros: route.expire_unix_micros,
            utm: [&utm.source, &utm.medium, &utm.campaign, &utm.term, &utm.content]
                .map(|text| text.clone().into_bytes()),
            encoded: route.encode_to_vec().into(),
        })
    }

    /// The partition that the link's clicks go to: by the last half of its id, which is random.
    pub(crate) fn partition(&self, partitions: u32) -> u32 {
        let (_, random) = self.link_id.split_at(8);
        let random = random.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        u32::try_from(random % u64::from(partitions.max(1))).expect("less than a u32")
    }

    /// What to answer a request with this query at this time.
    pub(crate) fn decide(&self, query: Option<&str>, now_micros: i64) -> Decision {
        if !self.is_enabled {
            return Decision::Disabled;
        }
        let is_expired = self.expire_micros != 0 && self.expire_micros <= now_micros;
        let location = match (is_expired, &self.expired_location) {
            (false, _) => &self.location,
            (true, Some(location)) => location,
            (true, None) => return Decision::Expired,
        };
        match query {
            Some(query) if self.forwards_query && !query.is_empty() => {
                Decision::Redirect(location.with_query(query))
            }
            Some(_) | None => Decision::Redirect(location.header.clone()),
        }
    }
}

impl Location {
    fn new(uri: &str) -> Result<Self, RouteError> {
        let scheme_end = uri.find("://").unwrap_or(0);
        if !["http", "https"].iter().any(|scheme| uri[..scheme_end].eq_ignore_ascii_case(scheme)) {
            return Err(RouteError("its destination is not http or https"));
        }
        // Text with CR, LF or NUL makes no header.
        let header = HeaderValue::from_bytes(uri.as_bytes())
            .map_err(|_| RouteError("its destination can't be a header"))?;
        let query_at = uri.find('#').unwrap_or(uri.len());
        Ok(Self { header, query_at, has_query: uri[..query_at].contains('?') })
    }

    fn with_query(&self, query: &str) -> HeaderValue {
        let (before, fragment) = self.header.as_bytes().split_at(self.query_at);
        let separator = match (self.has_query, before.last()) {
            (false, _) => "?",
            (true, Some(b'?' | b'&')) => "",
            (true, _) => "&",
        };
        let joined = [before, separator.as_bytes(), query.as_bytes(), fragment].concat();
        // A request's query has no character that a header has not; should it, the link still leads somewhere.
        HeaderValue::from_maybe_shared(Bytes::from(joined)).unwrap_or_else(|_| self.header.clone())
    }
}

impl cache::Stored for Target {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.encoded);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::new(&Route::decode(bytes).ok()?).ok()
    }
}

/// How long a browser is asked to wait for a destination that can't be told at the moment.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route {
            link_id: vec![1; 16],
            workspace_id: vec![2; 16],
            destination_uri: "https://example.com/a".to_owned(),
            status: 302,
            enabled: true,
            ..Route::default()
        }
    }

    fn location(route: &Route, query: Option<&str>, now_micros: i64) -> String {
        match Target::new(route).expect("a good route").decide(query, now_micros) {
            Decision::Redirect(location) => location.to_str().expect("text").to_owned(),
            other @ (Decision::Disabled | Decision::Expired) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_query_is_forwarded_only_if_asked_and_before_the_fragment() {
        let forwarding =
            |uri: &str| Route { forward_query: true, destination_uri: uri.to_owned(), ..route() };
        assert_eq!(location(&route(), Some("q=1"), 0), "https://example.com/a");
        for (uri, query, expected) in [
            ("https://e.com/a", Some("q=1"), "https://e.com/a?q=1"),
            ("https://e.com/a?x=2", Some("q=1"), "https://e.com/a?x=2&q=1"),
            ("https://e.com/a?x=2#f?", Some("q=1"), "https://e.com/a?x=2&q=1#f?"),
            ("https://e.com/a#f?", Some("q=1"), "https://e.com/a?q=1#f?"),
            ("https://e.com/a?", Some("q=1"), "https://e.com/a?q=1"),
            ("https://e.com/a", Some(""), "https://e.com/a"),
            ("https://e.com/a", None, "https://e.com/a"),
        ] {
            assert_eq!(location(&forwarding(uri), query, 0), expected);
        }
    }

    #[test]
    fn a_link_expires_at_its_time_and_then_leads_elsewhere_or_nowhere() {
        let mut route = Route { expire_unix_micros: 100, ..route() };
        assert_eq!(location(&route, None, 99), "https://example.com/a");
        assert_eq!(location(&route, None, 100), "Expired");
        route.expired_destination_uri = "http://other.example/".to_owned();
        assert_eq!(location(&route, None, 100), "http://other.example/");
        route.enabled = false;
        assert_eq!(location(&route, None, 100), "Disabled");
    }

    #[test]
    fn a_route_that_would_harm_is_refused() {
        for (what, route) in [
            ("script", Route { destination_uri: "javascript:alert(1)".to_owned(), ..route() }),
            ("line", Route { destination_uri: "http://a/\r\nset-cookie: x".to_owned(), ..route() }),
            ("status", Route { status: 200, ..route() }),
            ("id", Route { link_id: vec![1; 15], ..route() }),
        ] {
            assert!(Target::new(&route).is_err(), "{what}");
        }
    }
}
