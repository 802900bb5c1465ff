//! What was decided about a request, and how its client is told: in the headers of every answer, and in the error if it is refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use rpc::Error;
use rpc::Quota;

use crate::limits::caller::Kind;
use crate::limits::rules::Rule;
use crate::limits::store::Decided;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Of draft-ietf-httpapi-ratelimit-headers.
const DRAFT: HeaderName = HeaderName::from_static("ratelimit");
const DRAFT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What was decided.
#[derive(Debug)]
pub(crate) struct Verdict {
    kind: Kind,
    /// What tells this caller's quota from others', as far as others may know.
    partition: Option<[u8; 8]>,
    standings: Vec<Standing>,
    refused: Option<(usize, Duration)>,
}

/// How a caller stands with one limit.
#[derive(Debug)]
struct Standing {
    rule: Arc<Rule>,
    /// Requests that would be let through now.
    room: u64,
    /// How long until the whole limit is.
    full_in: Duration,
}

impl Verdict {
    pub(super) fn new(
        kind: Kind,
        id: Option<[u8; 16]>,
        rules: &[&Arc<Rule>],
        decided: &Decided,
        shares: u32,
    ) -> Self {
        let standings = rules.iter().zip(&decided.ahead).map(|(rule, ahead)| Standing {
            rule: Arc::clone(rule),
            room: rule.share(shares).room(*ahead),
            full_in: *ahead,
        });
        // The hash of an address is told to nobody.
        let id = id.filter(|_| kind != Kind::Address);
        Self {
            kind,
            partition: id.and_then(|id| id.last_chunk().copied()),
            standings: standings.collect(),
            refused: decided.refused,
        }
    }

    /// # Errors
    /// RATE_LIMITED, with the wait.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.refused {
            None => Ok(()),
            Some((place, wait)) => Err(error(&self.standings[place].rule, self.kind, wait)),
        }
    }

    /// Says it in an answer: of the limit that refused, or that has the fewest requests left. In the fields of the draft too, of all
    /// limits, where those are switched on.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap, has_draft: bool) {
        let nearest = self.standings.iter().min_by_key(|standing| standing.room);
        // Of a refused request until another is let through, of any other until the whole limit is.
        let (standing, remaining, reset) = match (self.refused, nearest) {
            (Some((place, wait)), _) => (&self.standings[place], 0, seconds(wait)),
            (None, Some(nearest)) => (nearest, nearest.room, whole_seconds(nearest.full_in)),
            (None, None) => return,
        };
        headers.insert(LIMIT, standing.rule.requests.into());
        headers.insert(REMAINING, remaining.into());
        headers.insert(RESET, reset.into());
        if has_draft {
            let partition = self.partition.map_or_else(String::new, |partition| {
                format!(";pk=:{}:", BASE64_STANDARD.encode(partition))
            });
            let policies = self.standings.iter().map(|standing| {
                let Rule { name, requests, per, .. } = &*standing.rule;
                format!("\"{name}\";q={requests};w={}{partition}", per.as_secs())
            });
            let policies = policies.collect::<Vec<_>>().join(", ");
            let name = &standing.rule.name;
            let standing = format!("\"{name}\";r={remaining};t={reset}{partition}");
            for (name, text) in [(DRAFT_POLICY, policies), (DRAFT, standing)] {
                let value = HeaderValue::try_from(text).expect("names of limits are ASCII");
                headers.insert(name, value);
            }
        }
    }
}

/// What whoever is refused is told.
pub(super) fn error(rule: &Rule, kind: Kind, wait: Duration) -> Error {
    let Rule { name, requests, per, .. } = rule;
    let whose = kind.name();
    let quota = format!("{requests} requests in {} s", per.as_secs());
    let message = format!("this {whose} may make {quota} (`{name}`)");
    let mut error = Error::rate_limited(message, wait);
    error.metadata.push(("limit", name.clone()));
    error.metadata.push(("requests", requests.to_string()));
    error.metadata.push(("seconds", per.as_secs().to_string()));
    error.quota = Some(Box::new(Quota { subject: whose.to_owned(), description: quota }));
    error
}

/// As `Retry-After` has it: upwards, since sooner would be too soon, and never at once.
fn seconds(wait: Duration) -> u64 {
    whole_seconds(wait).max(1)
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proto::common::v1::Tier;

    use crate::limits::rules::Rules;

    fn verdict(ahead: [u64; 3], refused: Option<(usize, Duration)>) -> Verdict {
        let rules = Rules::default();
        let mut all = vec![rules.tier(Tier::Free)];
        all.extend(rules.service("identity"));
        let ahead = ahead.map(Duration::from_secs);
        let decided = Decided { refused, granted: refused.is_none().into(), ahead };
        Verdict::new(Kind::Key, Some([0xff; 16]), &all, &decided, 1)
    }

    fn headers(verdict: &Verdict, has_draft: bool) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        verdict.add_headers(&mut headers, has_draft);
        let text = |value: &HeaderValue| value.to_str().expect("ASCII").to_owned();
        let mut all: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        all.sort();
        all
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// R53.
    #[test]
    fn r53_the_headers_are_of_the_limit_with_the_fewest_requests_left() {
        // 100, 1,000 and 10,000, of which 58, 950 and 1 are used up.
        let free = verdict([34, 57, 1], None);
        let common = [
            ("x-ratelimit-limit", "1000"),
            ("x-ratelimit-remaining", "50"),
            ("x-ratelimit-reset", "57"),
        ];
        assert_eq!(headers(&verdict([0, 57, 1], None), false), pairs(&common));
        let policy = "\"free\";q=100;w=60;pk=://////////8=:, \
                      \"identity-minute\";q=1000;w=60;pk=://////////8=:, \
                      \"identity-hour\";q=10000;w=3600;pk=://////////8=:";
        let all = [
            ("ratelimit", "\"free\";r=43;t=34;pk=://////////8=:"),
            ("ratelimit-policy", policy),
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-remaining", "43"),
            ("x-ratelimit-reset", "34"),
        ];
        assert_eq!(headers(&free, true), pairs(&all));
    }

    /// R27, R53: one instant in all of them.
    #[test]
    fn r27_a_refusal_says_the_same_wait_everywhere() {
        let refused = verdict([60, 60, 60], Some((0, Duration::from_millis(1_200))));
        let error = refused.check().expect_err("it is refused");
        assert_eq!(error.retry_after, Some(Duration::from_millis(1_200)));
        assert_eq!(error.quota.as_ref().map(|quota| quota.subject.as_str()), Some("key"));
        let told = headers(&refused, true);
        assert!(told.contains(&("x-ratelimit-reset".to_owned(), "2".to_owned())), "{told:?}");
        assert!(told.contains(&("x-ratelimit-remaining".to_owned(), "0".to_owned())), "{told:?}");
        assert!(told[0].1.starts_with("\"free\";r=0;t=2"), "{told:?}");
    }

    #[test]
    fn the_hash_of_an_address_is_told_to_nobody() {
        let rules = Rules::default();
        let decided = Decided { refused: None, granted: 1, ahead: Default::default() };
        let verdict = Verdict::new(Kind::Address, Some([7; 16]), &[&rules.address], &decided, 1);
        let policy = ("ratelimit-policy".to_owned(), "\"address\";q=100;w=60".to_owned());
        assert!(headers(&verdict, true).contains(&policy));
    }
}
