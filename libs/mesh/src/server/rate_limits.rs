//! How often callers may call: a token bucket for each limit, caller and method. Looking one up and taking from it needs no lock.

use crate::gcra::Bucket;
use crate::gcra::Gcra;
use crate::methods::METHODS;
use crate::methods::Method;
use crate::policy::RateLimit;
use http::HeaderMap;
use std::sync::OnceLock;
use std::time::Duration;

/// How many callers have buckets of their own; those after share one. There are as many callers as services.
pub(super) const CALLERS_MAX: usize = 256;

/// One limit, and how full its buckets are.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) rule: RateLimit,
    rate: Gcra,
    /// By caller, then by method; a caller's are made when it first calls.
    buckets: Box<[OnceLock<Box<[Bucket]>>]>,
}

/// A call that counts.
pub(super) struct Counted<'a> {
    pub(super) caller: &'a str,
    /// The caller's place, below [`CALLERS_MAX`].
    pub(super) caller_index: usize,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Limit {
    pub(super) fn new(rule: RateLimit) -> Self {
        let rate = Gcra::new(rule.calls, rule.per, rule.burst);
        Self { rule, rate, buckets: (0..CALLERS_MAX).map(|_| OnceLock::new()).collect() }
    }

    fn bucket(&self, call: &Counted<'_>) -> &Bucket {
        // What no descriptor knows shares the last.
        let others = METHODS.count();
        let of_caller = self.buckets[call.caller_index]
            .get_or_init(|| (0..=others).map(|_| Bucket::default()).collect());
        &of_caller[call.method.index.unwrap_or(others)]
    }
}

/// Takes the call from every limit that it falls under; or from none, and says which is used up and when it no longer is.
pub(super) fn take<'a>(
    limits: impl Iterator<Item = &'a Limit> + Clone,
    call: &Counted<'_>,
    now: Duration,
) -> Result<(), (&'a Limit, Duration)> {
    let matching =
        limits.filter(|limit| limit.rule.matching.matches(call.path, call.headers, call.caller));
    for (place, limit) in matching.clone().enumerate() {
        if let Err(wait) = limit.rate.take(limit.bucket(call), now, 1) {
            matching.take(place).for_each(|taken| taken.rate.give_back(taken.bucket(call)));
            return Err((limit, wait));
        }
    }
    Ok(())
}

/// What the caller is told.
pub(super) fn error(limit: &Limit, caller: &str, wait: Duration) -> rpc::Error {
    let RateLimit { name, calls, per, .. } = &limit.rule;
    let message = format!("`{caller}` may call this method {calls} times in {per:?} (`{name}`)");
    let mut error = rpc::Error::rate_limited(message, wait);
    error.metadata.push(("limit", name.clone()));
    error.metadata.push(("caller", caller.to_owned()));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CallMatch;
    use crate::policy::Callers;
    use crate::policy::MethodMatch;

    const GET: &str = "/linkmesh.links.v1.LinksService/GetLink";
    const CREATE: &str = "/linkmesh.links.v1.LinksService/CreateLink";

    fn limit(name: &str, calls: u32, method: Option<&str>) -> Limit {
        let matching = CallMatch {
            method: method.map(|path| MethodMatch::Path(path.to_owned())),
            headers: Vec::new(),
            callers: Callers::Any,
        };
        let per = Duration::from_secs(1);
        Limit::new(RateLimit { name: name.to_owned(), matching, calls, per, burst: calls })
    }

    /// How many of ten calls go through.
    fn taken(limits: &[Limit], caller_index: usize, path: &str) -> usize {
        let (method, headers) = (METHODS.of_path(path), HeaderMap::new());
        let call = Counted { caller: "any", caller_index, method, path, headers: &headers };
        (0..10).filter(|_| take(limits.iter(), &call, Duration::from_secs(5)).is_ok()).count()
    }

    #[test]
    fn each_caller_and_each_method_has_its_own() {
        let limits = [limit("three", 3, None)];
        assert_eq!(taken(&limits, 0, GET), 3);
        assert_eq!(taken(&limits, 0, GET), 0);
        assert_eq!(taken(&limits, 0, CREATE), 3);
        assert_eq!(taken(&limits, 1, GET), 3);
        // What is in no descriptor is one method.
        assert_eq!(taken(&limits, 0, "/a.B/C") + taken(&limits, 0, "/a.B/D"), 3);
    }

    #[test]
    fn all_that_match_apply_and_what_one_refuses_costs_nothing_at_the_others() {
        let limits = [limit("five", 5, None), limit("two", 2, Some(GET))];
        assert_eq!(taken(&limits, 0, GET), 2);
        let call = |path| {
            let (method, headers) = (METHODS.of_path(path), HeaderMap::new());
            let call = Counted { caller: "edge", caller_index: 0, method, path, headers: &headers };
            take(limits.iter(), &call, Duration::from_secs(5))
                .map_err(|(limit, wait)| (limit.rule.name.as_str(), wait))
        };
        assert_eq!(call(GET), Err(("two", Duration::from_millis(500))));
        let left = Gcra::new(5, Duration::from_secs(1), 5);
        let headers = HeaderMap::new();
        let method = METHODS.of_path(GET);
        let counted =
            Counted { caller: "edge", caller_index: 0, method, path: GET, headers: &headers };
        let bucket = limits[0].bucket(&counted);
        let rest = (0..10).filter(|_| left.take(bucket, Duration::from_secs(5), 1).is_ok()).count();
        assert_eq!(rest, 3);
    }
}
