//! What caches may do with the answer to a read, as its method's proto says (`linkmesh.common.v1.caching`), and the keys that a CDN
//! forgets it by.
//!
//! What must stay true: what a client had to prove itself for is kept by nobody but that client, and what is no answer to a read,
//! or is an error, by nobody at all.

use bytes::BytesMut;
use http::HeaderName;
use http::HeaderValue;
use prost_reflect::MethodDescriptor;
use proto::common::v1::CacheScope;
use proto::common::v1::Caching;
use rpc::Requirement;
use transcode::Idempotency;

use crate::contract;
use crate::protocols::Method;

/// For whoever is not let in by what they prove: the body may be kept, and holds only once we were asked.
const CLIENT: HeaderValue = HeaderValue::from_static("private, no-cache");
pub(crate) const NOBODY: HeaderValue = HeaderValue::from_static("private, no-store");
/// By what an answer differs, beside its path and query.
pub(crate) const VARY: HeaderValue = HeaderValue::from_static("accept, accept-encoding, origin");
/// Fastly's name, which Varnish's xkey and others take too.
pub(crate) const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// How the `Cache-Control` begins of what any cache may keep.
const PUBLIC: &str = "public";
const OPTION: &str = "linkmesh.common.v1.caching";
/// The longest that anything may be kept.
const SECONDS_MAX: i32 = 86_400;
/// Bytes of a path that is told as keys; a CDN takes 1,024 of one key.
const KEY_BYTES_MAX: usize = 512;

/// `Cache-Control` of the answer to a read.
pub(crate) fn of(method: &Method) -> HeaderValue {
    method.cache_control.clone().unwrap_or(CLIENT)
}

/// What a method says itself, which asks this of its caller; none for most.
///
/// # Errors
/// What can't be kept to.
pub(crate) fn declared(
    method: &MethodDescriptor,
    requires: Option<Requirement>,
) -> Result<Option<HeaderValue>, &'static str> {
    let caching = contract::option(method, OPTION);
    caching.map(|caching| control(&caching, requires, transcode::idempotency(method))).transpose()
}

/// Whether shared caches may keep the answer to a read.
pub(crate) fn is_for_shared(method: &Method) -> bool {
    of(method).as_bytes().starts_with(PUBLIC.as_bytes())
}

/// What the answer to a read is forgotten by: the path's resource and all that it is within, without version and verb.
/// `/v1/workspaces/w/links/l` has the keys `workspaces/w/links/l` and `workspaces/w`.
pub(crate) fn keys(path: &str) -> Option<HeaderValue> {
    let name = path.strip_prefix("/v1/").or_else(|| path.strip_prefix('/'))?;
    if name.is_empty() || name.len() > KEY_BYTES_MAX {
        return None;
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..].find(':').map_or(name.len(), |colon| last + colon);
    let mut keys = BytesMut::with_capacity(2 * end);
    keys.extend_from_slice(&name.as_bytes()[..end]);
    let mut rest = &name[..end];
    let mut slashes = rest.bytes().filter(|byte| *byte == b'/').count();
    while let Some((stem, _)) = rest.rsplit_once('/') {
        (rest, slashes) = (stem, slashes - 1);
        // Names are pairs of a collection and an id; what a path has beyond them is a collection.
        if slashes % 2 == 1 {
            keys.extend_from_slice(b" ");
            keys.extend_from_slice(rest.as_bytes());
        }
    }
    HeaderValue::from_maybe_shared(keys.freeze()).ok()
}

fn control(
    caching: &Caching,
    requires: Option<Requirement>,
    idempotency: Idempotency,
) -> Result<HeaderValue, &'static str> {
    let (fresh, stale) = (caching.max_age_seconds, caching.stale_while_revalidate_seconds);
    if ![fresh, stale].iter().all(|seconds| (0..=SECONDS_MAX).contains(seconds)) {
        return Err("has seconds outside 0 to 86400");
    }
    if idempotency != Idempotency::NoSideEffects {
        return Err("is of a method that is no read");
    }
    let who = match CacheScope::try_from(caching.scope) {
        Ok(CacheScope::Nobody) => return Ok(NOBODY),
        Ok(CacheScope::Client) => "private",
        Ok(CacheScope::Anyone) if requires == Some(Requirement::Anyone) => PUBLIC,
        Ok(CacheScope::Anyone) => return Err("is for anyone, and the method is not"),
        Ok(CacheScope::Unspecified) | Err(_) => return Err("names nobody"),
    };
    let mut text = format!("{who}, max-age={fresh}");
    if stale > 0 {
        text.push_str(&format!(", stale-while-revalidate={stale}"));
    }
    Ok(HeaderValue::try_from(text).expect("words and digits make a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::contract::Contract;

    fn method(path: &str) -> &'static Method {
        Contract::built_in().method(path).expect("it is public")
    }

    #[test]
    fn r55_only_what_anyone_may_read_is_for_every_cache() {
        let services = proto::DESCRIPTORS.services();
        for descriptor in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let requires = contract::requirement(&descriptor);
            let said = declared(&descriptor, requires).expect("a rule that can be kept");
            let is_public =
                said.is_some_and(|said| said.to_str().expect("text").starts_with("public"));
            let name = descriptor.full_name();
            assert!(!is_public || requires == Some(Requirement::Anyone), "{name}");
        }
        let keys = of(method("/linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys"));
        assert_eq!(keys, "public, max-age=300, stale-while-revalidate=300");
        assert_eq!(of(method("/linkmesh.links.v1.LinksService/GetLink")), CLIENT);
    }

    #[test]
    fn a_rule_that_can_not_be_kept_is_refused() {
        let (anyone, user) = (Some(Requirement::Anyone), Some(Requirement::User));
        let caching = |scope: CacheScope, max_age_seconds| Caching {
            scope: scope.into(),
            max_age_seconds,
            stale_while_revalidate_seconds: 0,
        };
        let reading = Idempotency::NoSideEffects;
        let shared = CacheScope::Anyone;
        assert!(control(&caching(shared, 1), anyone, reading).is_ok());
        for requires in [user, None] {
            assert!(control(&caching(shared, 1), requires, reading).is_err());
        }
        assert!(control(&caching(shared, 1), anyone, Idempotency::Idempotent).is_err());
        assert!(control(&caching(shared, -1), anyone, reading).is_err());
        assert!(control(&caching(shared, SECONDS_MAX + 1), anyone, reading).is_err());
        assert!(control(&caching(CacheScope::Unspecified, 1), anyone, reading).is_err());
        assert_eq!(control(&caching(CacheScope::Nobody, 1), user, reading), Ok(NOBODY));
        let client = control(&caching(CacheScope::Client, 60), user, reading);
        assert_eq!(client, Ok(HeaderValue::from_static("private, max-age=60")));
    }

    #[test]
    fn keys_are_a_resource_and_what_it_is_within() {
        for (path, expected) in [
            ("/v1/workspaces/w", Some("workspaces/w")),
            ("/v1/workspaces", Some("workspaces")),
            ("/v1/workspaces/w/links", Some("workspaces/w/links workspaces/w")),
            ("/v1/workspaces/w/links/l", Some("workspaces/w/links/l workspaces/w")),
            ("/v1/workspaces/w/clicks:count", Some("workspaces/w/clicks workspaces/w")),
            ("/v1/a/b/c/d/e/f", Some("a/b/c/d/e/f a/b/c/d a/b")),
            ("/.well-known/jwks.json", Some(".well-known/jwks.json")),
            ("/", None),
        ] {
            let keys = keys(path);
            let keys = keys.as_ref().map(|keys| keys.to_str().expect("text"));
            assert_eq!(keys, expected, "{path}");
        }
        assert_eq!(keys(&format!("/v1/{}", "a".repeat(KEY_BYTES_MAX + 1))), None);
    }
}
