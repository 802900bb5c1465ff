//! `GET /{slug}`: decide, append the click to the spool, redirect. Nothing here speaks JSON or gRPC while the link is
//! remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use proto::common::v1::ErrorReason;
use proto::events::v1::ClickMethod;
use rpc::network::NetworkHash;

use crate::address::TrustedProxies;
use crate::body::Body;
use crate::click;
use crate::click::Seen;
use crate::fault;
use crate::fault::Fault;
use crate::limits::Limits;
use crate::places::Place;
use crate::places::Places;
use crate::routes::HOST_BYTES_MAX;
use crate::routes::Peeked;
use crate::routes::Routes;
use crate::target::Decision;
use crate::target::RETRY_AFTER;
use crate::target::SLUG_BYTES_MAX;
use crate::target::Target;
use crate::visitors::Visitors;

/// Nobody but the browser may keep a redirect, and that one asks again: every click comes here.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, max-age=0");

/// Everything that a redirect needs.
#[derive(Debug)]
pub(crate) struct Redirects {
    pub(crate) routes: Routes,
    pub(crate) aliases: HashMap<String, String>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) limits: Limits,
    pub(crate) places: Option<Places>,
    pub(crate) visitors: Visitors,
    pub(crate) spool: bus::spool::Spool,
    pub(crate) partitions: u32,
    pub(crate) metrics: RedirectMetrics,
}

/// `edge_redirects_total{outcome}`.
#[derive(Debug, Clone)]
pub(crate) struct RedirectMetrics {
    redirected: Counter,
    unknown: Counter,
    disabled: Counter,
    expired: Counter,
    unavailable: Counter,
    limited: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// A short ASCII text on the stack.
#[derive(Debug, Clone, Copy)]
struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl RedirectMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let family = Family::<Outcome, Counter>::default();
        registry.register("edge_redirects", "Requests for short links", family.clone());
        let counter = |outcome| family.get_or_create_owned(&Outcome { outcome });
        Self {
            redirected: counter("redirected"),
            unknown: counter("unknown"),
            disabled: counter("disabled"),
            expired: counter("expired"),
            unavailable: counter("unavailable"),
            limited: counter("limited"),
        }
    }
}

impl Redirects {
    /// Which network an address is of.
    pub(crate) fn network(&self, address: IpAddr) -> Option<NetworkHash> {
        self.visitors.network(Timestamp::now().as_microsecond(), address)
    }

    /// Answers a GET or HEAD for one path segment.
    pub(crate) async fn answer<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
        now: Instant,
    ) -> Response<Body> {
        let address = self.proxies.client(peer, request.headers());
        if let Err(error) = self.limits.redirect(address, now) {
            self.metrics.limited.inc();
            return Fault::from(error).into_response(fault::form(request.headers()));
        }
        let now_micros = Timestamp::now().as_microsecond();
        let found = match (self.domain(request), slug(request.uri().path())) {
            (Some(domain), Some(slug)) => {
                self.find(&domain, &slug, now_micros).await.map(|found| found.map(|f| (domain, f)))
            }
            _ => Ok(None),
        };
        let (domain, entry) = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.metrics.unknown.inc();
                return Fault::no_link().into_response(fault::form(request.headers()));
            }
            Err(status) => {
                self.metrics.unavailable.inc();
                tracing::debug!(code = ?status.code(), "a link can't be resolved");
                let message = "where this link leads can't be told at the moment";
                let mut error = rpc::Error::unavailable(ErrorReason::NoEndpoint, message);
                error.retry_after = Some(RETRY_AFTER);
                return Fault::from(error).into_response(fault::form(request.headers()));
            }
        };
        let Some(target) = &entry.value else {
            self.metrics.unknown.inc();
            return Fault::no_link().into_response(fault::form(request.headers()));
        };
        match target.decide(request.uri().query(), now_micros) {
            Decision::Redirect(location) => {
                self.record(target, domain.as_bytes(), address, request, now_micros).await;
                self.metrics.redirected.inc();
                redirect(target.status, location)
            }
            Decision::Disabled => {
                self.metrics.disabled.inc();
                Fault::no_link().into_response(fault::form(request.headers()))
            }
            Decision::Expired => {
                self.metrics.expired.inc();
                Fault::link_expired().into_response(fault::form(request.headers()))
            }
        }
    }

    async fn find(
        &self,
        domain: &Short<HOST_BYTES_MAX>,
        slug: &Short<SLUG_BYTES_MAX>,
        now_micros: i64,
    ) -> Result<Option<std::sync::Arc<cache::Entry<Target>>>, tonic::Status> {
        let (domain, slug) = (domain.as_bytes(), slug.as_bytes());
        let peeked = match self.routes.peek(domain, slug, now_micros) {
            Some(peeked) => peeked,
            None => Box::pin(self.routes.get(domain, slug, now_micros)).await?,
        };
        Ok(match peeked {
            Peeked::Entry(entry) => Some(entry),
            Peeked::NoDomain => None,
        })
    }

    async fn record<B>(
        &self,
        target: &Target,
        domain: &[u8],
        address: IpAddr,
        request: &Request<B>,
        now_micros: i64,
    ) {
        let headers = request.headers();
        let place = self.places.as_ref().map_or_else(Place::default, |places| places.find(address));
        let visitor = self.visitors.hash(now_micros, address, click::user_agent(headers), domain);
        let is_head = request.method() == Method::HEAD;
        let click = click::encode(
            target,
            &Seen {
                time_micros: u64::try_from(now_micros).unwrap_or_default(),
                method: if is_head { ClickMethod::Head } else { ClickMethod::Get },
                place,
                visitor,
                headers,
                query: request.uri().query(),
            },
        );
        // A click that can't be written is counted as lost by the spool, and its visitor redirected all the same.
        if let Err(error) = self.spool.append(target.partition(self.partitions), &click).await {
            tracing::debug!(error = %error, "a click is lost");
        }
    }

    /// The link domain that a request is for: its host in lower case, without port and trailing dot, or what that stands
    /// for. `None` if it has none.
    fn domain<B>(&self, request: &Request<B>) -> Option<Short<HOST_BYTES_MAX>> {
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => request.headers().get(header::HOST)?.to_str().ok()?,
        };
        let host = without_port(host);
        let domain = Short::lower_case(host.as_bytes())?;
        if self.aliases.is_empty() {
            return Some(domain);
        }
        match self.aliases.get(std::str::from_utf8(domain.as_bytes()).ok()?) {
            Some(alias) => Short::lower_case(alias.as_bytes()),
            None => Some(domain),
        }
    }
}

fn redirect(status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    let host = host.split(':').next().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host)
}

/// The slug in a path of one segment; `None` if no slug can be like that, so that nobody need be asked.
fn slug(path: &str) -> Option<Short<SLUG_BYTES_MAX>> {
    let segment = path.strip_prefix('/')?;
    let mut slug = Short { bytes: [0; SLUG_BYTES_MAX], length: 0 };
    for byte in percent_decode_str(segment) {
        let is_of_slugs = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !is_of_slugs || slug.length == SLUG_BYTES_MAX {
            return None;
        }
        slug.bytes[slug.length] = byte;
        slug.length += 1;
    }
    (slug.length > 0).then_some(slug)
}

impl<const N: usize> Short<N> {
    fn lower_case(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > N {
            return None;
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text);
        bytes[..text.len()].make_ascii_lowercase();
        Some(Self { bytes, length: text.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_be_no_slug_is_told_without_asking() {
        let read = |path: &str| {
            slug(path).map(|slug| String::from_utf8(slug.as_bytes().to_vec()).expect("ASCII"))
        };
        assert_eq!(read("/Sale-1_x").as_deref(), Some("Sale-1_x"));
        assert_eq!(read("/%53ale").as_deref(), Some("Sale"));
        let long = format!("/{}", "a".repeat(SLUG_BYTES_MAX));
        assert_eq!(read(&long).map(|slug| slug.len()), Some(SLUG_BYTES_MAX));
        for path in ["/", "", "/a.php", "/a%2Fb", "/a%00", "/%zz", "/é", &format!("{long}a")] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn a_host_loses_its_port_and_its_trailing_dot() {
        for (host, expected) in [
            ("l.example", "l.example"),
            ("l.example:8080", "l.example"),
            ("l.example.", "l.example"),
            ("[::1]:8080", "::1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
