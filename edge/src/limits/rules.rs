//! How many requests are let through: the defaults, or what a file says, which is read again when it changes.
//!
//! A limit of so many requests in a time lets them all through at once and then one by one as time passes: its burst is the whole
//! limit, as RFC 9110's `Retry-After` and the RateLimit fields' quota `q` in a window `w` tell a client that it may. So a
//! caller that was idle makes up to twice the limit in the minute that begins with its first request, and exactly the limit in
//! any later one. A smaller burst would take from every caller's minute what only such a first one has too much.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesh::gcra::Gcra;
use proto::common::v1::Tier;
use serde::Deserialize;

use crate::limits::local;
use crate::watched::WatchedFile;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// The most that a limit may allow. Redis counts whole microseconds between two requests, of which these are six in a minute;
/// a second of redirects is counted by an edge's own clock, which lets at most one through in each of its ticks.
const REQUESTS_MAX: u32 = 10_000_000;
/// Limits that apply to one request: a tier's, and a service's minute and hour.
pub(super) const RULES_MAX: usize = 3;
/// Services that may have limits of their own.
const SERVICES_MAX: usize = 64;
/// Bytes of a service's name.
const SERVICE_BYTES_MAX: usize = 32;
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// One limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What clients, metrics and `RateLimit-Policy` call it.
    pub(crate) name: String,
    /// What tells a caller's buckets apart. Tiers share one, so that a caller whose tier changes keeps what it has used up.
    pub(super) bucket: String,
    pub(crate) requests: u32,
    pub(crate) per: Duration,
    pub(super) rate: Gcra,
}

impl Rule {
    fn new(
        name: impl Into<String>,
        bucket: impl Into<String>,
        requests: u32,
        per: Duration,
    ) -> Self {
        let rate = Gcra::new(requests, per, requests).by(local::UNIT);
        Self { name: name.into(), bucket: bucket.into(), requests, per, rate }
    }

    /// What is left of it to each of so many edges that can't ask Redis.
    pub(super) fn share(&self, edges: u32) -> Gcra {
        self.rate.share(edges).by(local::UNIT)
    }

    /// Microseconds between two requests, and of a whole burst: upwards, so that never more is let in than was said.
    pub(super) fn micros(&self) -> (u64, u64) {
        let per = u64::try_from(self.per.as_micros()).unwrap_or(u64::MAX);
        let interval = per.div_ceil(u64::from(self.requests));
        (interval, interval * u64::from(self.requests))
    }
}

/// All limits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    free: Arc<Rule>,
    premium: Arc<Rule>,
    enterprise: Arc<Rule>,
    /// Of an address: requests whose sender is not proved.
    pub(super) address: Arc<Rule>,
    /// Of an address, at this edge alone: requests for short links.
    pub(super) redirect: Rule,
    /// By service: a minute's and an hour's.
    services: Vec<(String, [Arc<Rule>; 2])>,
}

impl Rules {
    /// What applies to a caller of a tier.
    pub(super) fn tier(&self, tier: Tier) -> &Arc<Rule> {
        match tier {
            Tier::Unspecified | Tier::Free => &self.free,
            Tier::Premium => &self.premium,
            Tier::Enterprise => &self.enterprise,
        }
    }

    /// What applies to each caller of a service beside that; nothing for most.
    pub(super) fn service(&self, service: &str) -> &[Arc<Rule>] {
        let found = self.services.iter().find(|(name, _)| name == service);
        found.map_or(&[], |(_, rules)| rules)
    }

    fn of(said: Said) -> anyhow::Result<Self> {
        let mut services = Said::default_services();
        services.extend(said.services);
        anyhow::ensure!(services.len() <= SERVICES_MAX, "services: at most {SERVICES_MAX}");
        let Tiers { free, premium, enterprise } = said.tiers;
        let checks = [
            ("tiers.free", free),
            ("tiers.premium", premium),
            ("tiers.enterprise", enterprise),
            ("addresses.minute", said.addresses.minute),
            ("redirects.second", said.redirects.second),
        ];
        for (key, requests) in checks {
            check(key, requests)?;
        }
        let mut limited = Vec::new();
        for (name, Service { minute, hour }) in services {
            let is_name = !name.is_empty()
                && name.len() <= SERVICE_BYTES_MAX
                && name.bytes().all(|byte| byte.is_ascii_lowercase());
            anyhow::ensure!(
                is_name,
                "services: {name:?} is none, such as identity: 1 to {SERVICE_BYTES_MAX} letters a to z"
            );
            check(&format!("services.{name}.minute"), minute)?;
            check(&format!("services.{name}.hour"), hour)?;
            let rule = |what: &str, requests, per| {
                let bucket = format!("{name}:{what}");
                Arc::new(Rule::new(format!("{name}-{what}"), bucket, requests, per))
            };
            limited
                .push((name.clone(), [rule("minute", minute, MINUTE), rule("hour", hour, HOUR)]));
        }
        let of_minute =
            |name: &str, requests| Arc::new(Rule::new(name, "minute", requests, MINUTE));
        Ok(Self {
            free: of_minute("free", free),
            premium: of_minute("premium", premium),
            enterprise: of_minute("enterprise", enterprise),
            address: of_minute("address", said.addresses.minute),
            redirect: Rule::new("redirect", "redirect", said.redirects.second, SECOND),
            services: limited,
        })
    }

    /// Reads what a file says; what it does not say has its default.
    ///
    /// # Errors
    /// What can't be read, what is unknown, and numbers out of range, by name.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        Self::of(toml::from_str(text)?)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(Said::default()).expect("the defaults are in their ranges")
    }
}

fn check(key: &str, requests: u32) -> anyhow::Result<()> {
    let is_good = (1..=REQUESTS_MAX).contains(&requests);
    anyhow::ensure!(is_good, "{key} must be 1 to {REQUESTS_MAX}, not {requests}");
    Ok(())
}

/// The file that `edge.limits.file` names.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Said {
    tiers: Tiers,
    addresses: Addresses,
    redirects: Redirects,
    services: BTreeMap<String, Service>,
}

/// Requests a minute of each API key and of each user, by the tier that its workspace has paid for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tiers {
    free: u32,
    premium: u32,
    enterprise: u32,
}

/// Of each address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Addresses {
    /// Requests a minute whose sender is not proved: without credentials, with wrong ones, and with those that were not seen
    /// before until they are found to be right.
    minute: u32,
}

/// Of each address, at each edge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Redirects {
    /// Requests a second for short links.
    second: u32,
}

/// Requests to a service by each caller.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    minute: u32,
    hour: u32,
}

impl Default for Tiers {
    fn default() -> Self {
        Self { free: 100, premium: 1_000, enterprise: 10_000 }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self { minute: 100 }
    }
}

impl Default for Redirects {
    fn default() -> Self {
        Self { second: 100 }
    }
}

impl Said {
    fn default_services() -> BTreeMap<String, Service> {
        let services = [
            ("identity", Service { minute: 1_000, hour: 10_000 }),
            ("content", Service { minute: 500, hour: 5_000 }),
        ];
        services.map(|(name, service)| (name.to_owned(), service)).into()
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct RulesFile(WatchedFile);

impl RulesFile {
    /// The file at a path, and what it says.
    ///
    /// # Errors
    /// It can't be read or used.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Rules)> {
        let (file, bytes) = WatchedFile::open(path, FILE_BYTES_MAX)?;
        let file = Self(file);
        let rules = file.rules(&bytes)?;
        Ok((file, rules))
    }

    /// What the file says, if it has changed.
    ///
    /// # Errors
    /// As of [`open`](Self::open). It is not read again until it changes.
    pub(super) fn look(&mut self) -> Option<anyhow::Result<Rules>> {
        let read = self.0.look()?;
        Some(read.and_then(|bytes| self.rules(&bytes)))
    }

    fn rules(&self, bytes: &[u8]) -> anyhow::Result<Rules> {
        let text = std::str::from_utf8(bytes).map_err(anyhow::Error::from);
        let rules = text.and_then(Rules::parse);
        rules.with_context(|| format!("{} can't be used", self.0.path().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use stack::TemporaryFolder;

    fn requests(rules: &Rules, service: &str) -> Vec<u32> {
        rules.service(service).iter().map(|rule| rule.requests).collect()
    }

    #[test]
    fn without_a_file_the_limits_are_those_that_tiers_and_services_are_documented_with() {
        let rules = Rules::default();
        let tiers = [Tier::Unspecified, Tier::Free, Tier::Premium, Tier::Enterprise];
        let of_tiers = tiers.map(|tier| (rules.tier(tier).requests, rules.tier(tier).per));
        let minute = |requests| (requests, MINUTE);
        assert_eq!(of_tiers, [100, 100, 1_000, 10_000].map(minute));
        assert_eq!((rules.address.requests, rules.address.per), minute(100));
        assert_eq!((rules.redirect.requests, rules.redirect.per), (100, SECOND));
        assert_eq!(requests(&rules, "identity"), [1_000, 10_000]);
        assert_eq!(requests(&rules, "content"), [500, 5_000]);
        assert_eq!(rules.service("content")[1].per, HOUR);
        assert!(rules.service("links").is_empty());
        assert_eq!(Rules::parse("").expect("an empty file"), rules);
    }

    #[test]
    fn a_file_says_what_differs() {
        let text = "[tiers]\nfree = 7\n[services.links]\nminute = 5\nhour = 6\n";
        let rules = Rules::parse(text).expect("it is a good one");
        assert_eq!(rules.tier(Tier::Free).requests, 7);
        assert_eq!(rules.tier(Tier::Premium).requests, 1_000);
        assert_eq!(requests(&rules, "links"), [5, 6]);
        assert_eq!(requests(&rules, "identity"), [1_000, 10_000]);
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused_by_name() {
        for (text, named) in [
            ("[tiers]\nfree = 0", "tiers.free"),
            ("[tiers]\ngold = 1", "gold"),
            ("[tier]\nfree = 1", "tier"),
            ("[addresses]\nminute = 10000001", "addresses.minute"),
            ("[redirects]\nsecond = 0", "redirects.second"),
            ("[services.links]\nminute = 1\nhour = 0", "services.links.hour"),
            ("[services.links]\nminute = 1", "hour"),
            ("[services.'Li:nks']\nminute = 1\nhour = 1", "Li:nks"),
            ("free = ", ""),
        ] {
            let error = format!("{:#}", Rules::parse(text).expect_err(text));
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn microseconds_are_rounded_so_that_never_more_is_let_in() {
        let rule = Rule::new("r", "r", 7, MINUTE);
        assert_eq!(rule.micros(), (8_571_429, 60_000_003));
        assert_eq!(Rule::new("r", "r", 100, MINUTE).micros(), (600_000, 60_000_000));
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let folder = TemporaryFolder::new().expect("a folder");
        let path = folder.path().join("limits.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write("[tiers]\nfree = 7\n");
        let (mut file, rules) = RulesFile::open(&path).expect("it is a good one");
        assert_eq!(rules.tier(Tier::Free).requests, 7);
        write("[tiers]\nfree = 11\n");
        assert!(file.look().is_none());
        let rules = file.look().expect("it stays so").expect("it is a good one");
        assert_eq!(rules.tier(Tier::Free).requests, 11);
        write("[tiers]\nfree = -1\n");
        assert!(file.look().is_none() && file.look().is_some_and(|rules| rules.is_err()));
        assert!(file.look().is_none(), "it is said once");
    }
}
