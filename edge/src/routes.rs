//! Where slugs lead: from the cache, or from `links` through the mesh.
//!
//! A domain's case rule is needed before a slug can be looked up; it is remembered beside the links, with what it is not: a
//! host that is no link domain has no slugs to look up.

use std::sync::Arc;
use std::time::Duration;

use cache::Entry;
use cache::Filled;
use cache::Versioned;
use proto::events::v1::LinkChanged;
use proto::links::v1::ResolveRequest;
use proto::links::v1::ResolveResponse;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use tonic::Status;

use crate::target::SLUG_BYTES_MAX;
use crate::target::Target;

/// How long `links` may take to tell where a slug leads.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of `links` is fresh, from its read on the primary.
const TTL: Duration = Duration::from_secs(30);
/// The longest host name there is.
pub(crate) const HOST_BYTES_MAX: usize = 253;
/// Domains that an edge remembers, those that are none included.
const DOMAINS_MAX: usize = 100_000;
const KEY_BYTES_MAX: usize = HOST_BYTES_MAX + 1 + SLUG_BYTES_MAX;

/// Where slugs lead. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    targets: Versioned<Target, Status>,
    domains: Versioned<DomainRule, Status>,
    resolver: ResolverServiceClient<mesh::Mesh>,
}

/// What is known of a link domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DomainRule {
    is_case_sensitive: bool,
}

/// `domain`, NUL, `slug`, on the stack.
struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl Routes {
    pub(crate) fn new(
        links_max: usize,
        stale_max: Duration,
        l2: Option<cache::L2>,
        metrics: &cache::Metrics,
        mesh: mesh::Mesh,
    ) -> Self {
        let options = |name, entries_max| cache::Options {
            name,
            ttl: TTL,
            stale_max,
            entries_max,
            scope_bytes: None,
        };
        Self {
            targets: Versioned::new(options("links", links_max), l2.clone(), metrics),
            domains: Versioned::new(options("domains", DOMAINS_MAX), l2, metrics),
            resolver: ResolverServiceClient::new(mesh),
        }
    }

    /// What is remembered of a slug, without waiting: `None` if something must be read first.
    pub(crate) fn peek(&self, domain: &[u8], slug: &[u8], now_micros: i64) -> Option<Peeked> {
        let rule = self.domains.peek(domain, now_micros)?;
        let Some(rule) = rule.value else { return Some(Peeked::NoDomain) };
        let key = Key::new(domain, slug, rule);
        self.targets.peek(key.as_bytes(), now_micros).map(Peeked::Entry)
    }

    /// The same, reading what is missing.
    ///
    /// # Errors
    /// What `links` answers if it can't tell, and nothing young enough is remembered.
    pub(crate) async fn get(
        &self,
        domain: &[u8],
        slug: &[u8],
        now_micros: i64,
    ) -> Result<Peeked, Status> {
        let read = Read {
            routes: self.clone(),
            domain: String::from_utf8_lossy(domain).into_owned(),
            slug: String::from_utf8_lossy(slug).into_owned(),
            now_micros,
        };
        let for_rule = read.clone();
        let rule = self.domains.get(domain, now_micros, move || for_rule.clone().rule()).await?;
        let Some(rule) = rule.value else { return Ok(Peeked::NoDomain) };
        let key = Key::new(domain, slug, rule);
        let entry =
            self.targets.get(key.as_bytes(), now_micros, move || read.clone().target()).await?;
        Ok(Peeked::Entry(entry))
    }

    /// Takes notice of changes, in their order.
    pub(crate) async fn apply(&self, changes: Vec<LinkChanged>, now_micros: i64) {
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            let domain = change.domain.as_bytes();
            // A domain with a link is one, whatever was remembered, or was read before and is on its way here.
            let is_known =
                self.domains.peek(domain, now_micros).is_some_and(|rule| rule.value.is_some());
            if !is_known {
                self.domains.outdate(domain, change.version, now_micros);
            }
            let Some(value) = target(change.route.as_ref()) else { continue };
            let key = [domain, b"\0", change.slug.as_bytes()].concat();
            // The change was true when it was made, which its version tells: it is not read anew before it is 30 s old.
            let read_micros = change.version.min(now_micros);
            applied.push((key, Filled { version: change.version, read_micros, value }));
        }
        self.targets.apply(applied, now_micros).await;
    }

    /// Trusts nothing that was read before now: changes since then may have been missed.
    pub(crate) fn doubt(&self, now_micros: i64) {
        self.targets.doubt(now_micros);
        self.domains.doubt(now_micros);
    }
}

/// What is known of a slug.
#[derive(Debug)]
pub(crate) enum Peeked {
    Entry(Arc<Entry<Target>>),
    /// The host is no link domain.
    NoDomain,
}

/// One look-up on the primary, which tells of the domain and of the slug at once.
#[derive(Clone)]
struct Read {
    routes: Routes,
    domain: String,
    slug: String,
    now_micros: i64,
}

impl Read {
    async fn rule(self) -> Result<Filled<DomainRule>, Status> {
        let response = self.resolve().await?;
        let read_micros = read_micros(&response, self.now_micros);
        let rule = response
            .domain_known
            .then_some(DomainRule { is_case_sensitive: response.case_sensitive });
        if let (Some(rule), Some(value)) = (rule, target(response.route.as_ref())) {
            let key = Key::new(self.domain.as_bytes(), self.slug.as_bytes(), rule);
            let filled = Filled { version: response.version, read_micros, value };
            self.routes.targets.offer(key.as_bytes(), filled, self.now_micros).await;
        }
        Ok(Filled { version: read_micros, read_micros, value: rule })
    }

    async fn target(self) -> Result<Filled<Target>, Status> {
        let response = self.resolve().await?;
        let read_micros = read_micros(&response, self.now_micros);
        let rule = response
            .domain_known
            .then_some(DomainRule { is_case_sensitive: response.case_sensitive });
        let filled = Filled { version: read_micros, read_micros, value: rule };
        self.routes.domains.offer(self.domain.as_bytes(), filled, self.now_micros).await;
        let value = target(response.route.as_ref())
            .ok_or_else(|| Status::internal("links told a route that can't be used"))?;
        Ok(Filled { version: response.version, read_micros, value })
    }

    async fn resolve(&self) -> Result<ResolveResponse, Status> {
        let mut request = tonic::Request::new(ResolveRequest {
            domain: self.domain.clone(),
            slug: self.slug.clone(),
        });
        request.set_timeout(RESOLVE_TIMEOUT);
        let mut resolver = self.routes.resolver.clone();
        let answer = tokio::time::timeout(RESOLVE_TIMEOUT, resolver.resolve(request)).await;
        let response = answer.map_err(|_| Status::from(rpc::Error::deadline_exceeded()))??;
        Ok(response.into_inner())
    }
}

/// What a route means to the cache: something, nothing, or (outer `None`, logged) what must not be served.
#[expect(clippy::option_option, reason = "nothing there is an answer; an unusable route is none")]
fn target(route: Option<&proto::links::v1::Route>) -> Option<Option<Target>> {
    let Some(route) = route else { return Some(None) };
    match Target::new(route) {
        Ok(target) => Some(Some(target)),
        Err(error) => {
            tracing::error!(error = %error, "a route was refused");
            None
        }
    }
}

/// When the primary was read; now, which the request came before, if the answer does not say.
fn read_micros(response: &ResolveResponse, now_micros: i64) -> i64 {
    response
        .read_time
        .as_ref()
        .and_then(|time| rpc::time::from_proto("read_time", time).ok())
        .map_or(now_micros, jiff::Timestamp::as_microsecond)
}

impl Key {
    /// # Panics
    /// If the domain or the slug is longer than there are: dispatch has refused those.
    fn new(domain: &[u8], slug: &[u8], rule: DomainRule) -> Self {
        let mut bytes = [0; KEY_BYTES_MAX];
        let length = domain.len() + 1 + slug.len();
        bytes[..domain.len()].copy_from_slice(domain);
        bytes[domain.len() + 1..length].copy_from_slice(slug);
        if !rule.is_case_sensitive {
            bytes[domain.len() + 1..length].make_ascii_lowercase();
        }
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl cache::Stored for DomainRule {
    fn encode(&self, into: &mut Vec<u8>) {
        into.push(u8::from(self.is_case_sensitive));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self { is_case_sensitive: false }),
            [1] => Some(Self { is_case_sensitive: true }),
            _ => None,
        }
    }
}
