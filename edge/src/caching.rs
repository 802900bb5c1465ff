//! What caches may do with the answer to a read, as its method's proto says (`linkmesh.common.v1.caching`), and the keys that a CDN
//! forgets it by.
//!
//! What must stay true: what a client had to prove itself for is kept by nobody but that client, and what is no answer to a read,
//! or is an error, by nobody at all.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::HeaderName;
use http::HeaderValue;
use prost_reflect::MethodDescriptor;
use proto::common::v1::CacheScope;
use proto::common::v1::Caching;
use rpc::Requirement;
use transcode::Idempotency;

use crate::methods::ROUTES;

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

/// What the methods say that say something, by gRPC path.
static DECLARED: LazyLock<HashMap<&'static str, HeaderValue>> = LazyLock::new(|| {
    let mut declared = HashMap::new();
    for route in &ROUTES.routes {
        let Some(caching) = read(&route.method) else { continue };
        match control(&caching, &route.grpc_path, route.idempotency) {
            Ok(value) => drop(declared.insert(route.grpc_path.as_str(), value)),
            // A test builds them from the same protos; what is wrong all the same is kept by nobody.
            Err(why) => {
                tracing::error!(method = route.grpc_path, why, "its caching can't be used");
                declared.insert(&route.grpc_path, NOBODY);
            }
        }
    }
    declared
});

/// Builds the table, so that no request waits for that.
pub(crate) fn load() {
    LazyLock::force(&DECLARED);
}

/// `Cache-Control` of the answer to a read.
pub(crate) fn of(grpc_path: &str) -> HeaderValue {
    declared(grpc_path).unwrap_or(CLIENT)
}

/// The same, if the method says something itself.
pub(crate) fn declared(grpc_path: &str) -> Option<HeaderValue> {
    DECLARED.get(grpc_path).cloned()
}

/// Whether shared caches may keep the answer to a read.
pub(crate) fn is_for_shared(grpc_path: &str) -> bool {
    let control = declared(grpc_path);
    control.is_some_and(|value| value.as_bytes().starts_with(PUBLIC.as_bytes()))
}

/// What the answer to a read is forgotten by: the path's resource and all that it is within, without version and verb.
/// `/v1/workspaces/w/links/l` has the keys `workspaces/w/links/l` and `workspaces/w`.
pub(crate) fn keys(path: &str) -> Option<HeaderValue> {
    let name = path.strip_prefix("/v1/").or_else(|| path.strip_prefix('/'))?;
    if name.is_empty() || name.len() > KEY_BYTES_MAX {
        return None;
    }
    let (stem, last) = name.rsplit_once('/').map_or(("", name), |(stem, last)| (stem, last));
    let last = last.split(':').next().unwrap_or_default();
    let whole = if stem.is_empty() { last.to_owned() } else { format!("{stem}/{last}") };
    let mut keys = vec![whole.as_str()];
    // Names are pairs of a collection and an id; what a path has beyond them is a collection.
    let ends = whole.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    for end in ends.iter().skip(1).step_by(2).rev() {
        keys.push(&whole[..*end]);
    }
    HeaderValue::try_from(keys.join(" ")).ok()
}

fn read(method: &MethodDescriptor) -> Option<Caching> {
    let extension = method.parent_pool().get_extension_by_name(OPTION)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message()?.transcode_to().ok()
}

fn control(
    caching: &Caching,
    grpc_path: &str,
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
        Ok(CacheScope::Anyone) if Requirement::of_path(grpc_path) == Some(Requirement::Anyone) => {
            PUBLIC
        }
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

    #[test]
    fn r55_only_what_anyone_may_read_is_for_every_cache() {
        for route in &ROUTES.routes {
            let control = of(&route.grpc_path);
            let control = control.to_str().expect("text");
            let asks = Requirement::of_path(&route.grpc_path);
            let is_public = control.starts_with("public");
            assert!(!is_public || asks == Some(Requirement::Anyone), "{}", route.grpc_path);
            if let Some(caching) = read(&route.method) {
                let made = super::control(&caching, &route.grpc_path, route.idempotency);
                assert!(made.is_ok(), "{}: {made:?}", route.grpc_path);
            }
        }
        let keys = of("/linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys");
        assert_eq!(keys, "public, max-age=300, stale-while-revalidate=300");
        assert_eq!(of("/linkmesh.links.v1.LinksService/GetLink"), CLIENT);
    }

    #[test]
    fn a_rule_that_can_not_be_kept_is_refused() {
        let keys = "/linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys";
        let link = "/linkmesh.links.v1.LinksService/GetLink";
        let caching = |scope: CacheScope, max_age_seconds| Caching {
            scope: scope.into(),
            max_age_seconds,
            stale_while_revalidate_seconds: 0,
        };
        let reading = Idempotency::NoSideEffects;
        let anyone = CacheScope::Anyone;
        assert!(control(&caching(anyone, 1), keys, reading).is_ok());
        assert!(control(&caching(anyone, 1), link, reading).is_err());
        assert!(control(&caching(anyone, 1), keys, Idempotency::Idempotent).is_err());
        assert!(control(&caching(anyone, -1), keys, reading).is_err());
        assert!(control(&caching(anyone, SECONDS_MAX + 1), keys, reading).is_err());
        assert!(control(&caching(CacheScope::Unspecified, 1), keys, reading).is_err());
        assert_eq!(control(&caching(CacheScope::Nobody, 1), link, reading), Ok(NOBODY));
        let client = control(&caching(CacheScope::Client, 60), link, reading);
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
