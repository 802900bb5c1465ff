//! How often clients may ask: of a tier, of a service, of an address, and for short links.
//!
//! What must stay true: a request is taken from all of its limits or from none; all edges share one set of buckets, in Redis; who
//! can't ask Redis in time decides at once, at its share of what is allowed; and a redirect asks nobody. No address and no name is
//! in Redis: addresses are there as hashes under the day's salt, so their buckets begin anew with each day (UTC).
//!
//! Each edge keeps the last that Redis said of a caller, and goes on from there alone. So the switch lets a caller have at most what
//! the buckets of those edges hold that had not met it, at most one limit in all. What an edge let in alone it does not forget when
//! Redis is back, so coming and going lets in no more: what Redis allows and what edges allow alone, each keep to the limit.

mod caller;
mod clock;
mod lease;
mod local;
mod metrics;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod verdict;

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use service::ConfigError;
use tokio_util::sync::CancellationToken;

use crate::NAME;
use crate::limits::caller::Caller;
use crate::limits::caller::Kind;
use crate::limits::caller::Taken;
use crate::limits::clock::Clock;
use crate::limits::lease::Leases;
use crate::limits::lease::Refill;
use crate::limits::lease::Step;
use crate::limits::local::Table;
use crate::limits::metrics::Metrics;
use crate::limits::rules::RULES_MAX;
use crate::limits::rules::Rule;
use crate::limits::rules::Rules;
use crate::limits::store::Ask;
use crate::limits::store::Decided;
use crate::limits::store::Store;
use crate::limits::store::StoreMetrics;
use crate::proved::Proved;
use crate::proved::Who;
use crate::visitors::Visitors;

pub(crate) use caller::Charge;
pub(crate) use caller::Client;
pub(crate) use rules::RulesFile;
pub(crate) use verdict::Verdict;

/// How often the file is looked at, and the edges are counted.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Buckets of callers and their services that this edge keeps at once: those that are not full. 2 MiB.
const CALLERS_MAX: usize = 1 << 18;
/// The same of addresses that ask for short links, which fill up within a second. 512 KiB.
const VISITORS_MAX: usize = 1 << 16;
/// How often a request looks whether there is one for it among those that another asked for, before it asks itself.
const LOOKS_MAX: usize = 4;
/// How much longer than it matters a bucket is kept in Redis.
const KEEP_EXTRA: Duration = Duration::from_secs(1);

/// What limits are opened with.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) redis: Option<&'a str>,
    pub(crate) wait_max: Duration,
    pub(crate) draft_headers: bool,
    pub(crate) visitors: Visitors,
}

/// All limits, and how much of them is used up. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: ArcSwap<Rules>,
    store: Option<Store>,
    callers: Table,
    leases: Leases,
    redirects: Table,
    hasher: RandomState,
    visitors: Visitors,
    /// Edges that share the limits, as last known.
    edges: AtomicU32,
    clock: Clock,
    draft_headers: bool,
    metrics: Metrics,
}

/// Who asks, under which limits, and where what was taken for it in advance is kept.
struct Asking<'r> {
    caller: Caller,
    lease: u64,
    rules: Vec<&'r Arc<Rule>>,
}

impl Limits {
    /// Reads the file, if there is one; contacts nothing.
    ///
    /// # Errors
    /// A file that can't be used, and a URI that is none, by the key of the configuration.
    pub(crate) fn open(
        options: Options<'_>,
        registry: &mut Registry,
    ) -> Result<(Self, Option<RulesFile>), ConfigError> {
        let store = options.redis.map(|uri| {
            let options = store::Options {
                uri: uri.to_owned(),
                wait_max: options.wait_max,
                keep_extra: KEEP_EXTRA,
            };
            Store::open(options)
                .map_err(|error| ConfigError::new("edge.limits.redis", error.to_string()))
        });
        let read = options.file.map(RulesFile::open).transpose();
        let read =
            read.map_err(|error| ConfigError::new("edge.limits.file", format!("{error:#}")))?;
        let (file, rules) = read.map_or_else(|| (None, Rules::default()), |(f, r)| (Some(f), r));
        let clock = Clock::Own(Instant::now());
        Ok((Self::with(options, store.transpose()?, rules, clock, registry), file))
    }

    fn with(
        options: Options<'_>,
        store: Option<Store>,
        rules: Rules,
        clock: Clock,
        registry: &mut Registry,
    ) -> Self {
        let alone = StoreMetrics::default();
        alone.is_local.set(1);
        let metrics = store.as_ref().map_or(&alone, |store| &store.metrics);
        let metrics = Metrics::register(registry, metrics);
        metrics.edges.set(1);
        Self(Arc::new(Inner {
            rules: ArcSwap::from_pointee(rules),
            store,
            callers: Table::new(CALLERS_MAX),
            leases: Leases::new(),
            redirects: Table::new(VISITORS_MAX),
            hasher: RandomState::new(),
            visitors: options.visitors,
            edges: AtomicU32::new(1),
            clock,
            draft_headers: options.draft_headers,
            metrics,
        }))
    }

    /// Whether answers have the fields of the draft, too.
    pub(crate) fn has_draft_headers(&self) -> bool {
        self.0.draft_headers
    }

    /// Takes a request for a short link from its address's bucket at this edge.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub(crate) fn redirect(&self, address: IpAddr, now: Instant) -> Result<(), rpc::Error> {
        let rules = self.0.rules.load();
        let key = self.hash_of_address(address);
        let taken = self.0.redirects.take(key, &rules.redirect.rate, self.0.clock.since(now));
        taken.map(drop).map_err(|wait| {
            self.0.metrics.refused_redirects.inc();
            verdict::error(&rules.redirect, Kind::Address, wait)
        })
    }

    /// Charges a request to its address whose sender is not proved, or never will be; then with the service that it is for.
    pub(crate) async fn address(
        &self,
        address: IpAddr,
        service: Option<&str>,
        now_micros: i64,
    ) -> (Verdict, Charge) {
        let rules = self.0.rules.load_full();
        let caller = Caller {
            kind: Kind::Address,
            id: self.0.visitors.limited(now_micros, address),
            hash: self.hash_of_address(address),
        };
        let of_service = service.map_or(&[][..], |service| rules.service(service));
        let all: Vec<&Arc<Rule>> = std::iter::once(&rules.address).chain(of_service).collect();
        let (verdict, taken) = self.take(&caller, &all, None).await;
        (verdict, Charge { caller, rule: Arc::clone(&rules.address), taken })
    }

    /// Takes back what was charged to an address, where it was taken: whoever asks was proved. What this edge learned meanwhile of
    /// an address from Redis it forgets as time passes.
    pub(crate) async fn give_back(&self, charge: Charge) {
        let Charge { caller, rule, taken } = charge;
        match taken {
            Taken::Here { shares } => {
                let (key, rate) = (self.key(&caller, &rule), rule.share(shares));
                self.0.callers.give_back(key, &rate, self.0.clock.now());
            }
            Taken::InRedis => {
                if let Some((store, bucket)) = self.0.store.as_ref().zip(caller.bucket(&rule)) {
                    store.give_back(&bucket, &rule).await;
                }
            }
        }
    }

    /// Takes a request from the limits of whoever was proved to send it.
    pub(crate) async fn caller(&self, proved: &Proved, service: &str) -> Verdict {
        let rules = self.0.rules.load_full();
        let Asking { caller, lease, rules } = self.asking(&rules, proved, service);
        self.take(&caller, &rules, Some(lease)).await.0
    }

    /// The same, if nobody need be asked.
    pub(crate) fn caller_at_once(&self, proved: &Proved, service: &str) -> Option<Verdict> {
        let rules = self.0.rules.load();
        let Asking { caller, lease, rules } = self.asking(&rules, proved, service);
        let ahead = self.0.leases.take_held(lease, &rules, self.0.clock.now())?;
        Some(self.verdict(&caller, &rules, &Decided { refused: None, granted: 1, ahead }, 1))
    }

    fn asking<'r>(&self, rules: &'r Rules, proved: &Proved, service: &str) -> Asking<'r> {
        let (kind, id) = match proved.who {
            Who::Key(key) => (Kind::Key, *key.as_bytes()),
            Who::User(user) => (Kind::User, *user.as_bytes()),
        };
        let caller = Caller { kind, id: Some(id), hash: self.0.hasher.hash_one((kind, id)) };
        let lease = self.0.hasher.hash_one((caller.hash, service));
        let tier = rules.tier(proved.tier);
        let rules = std::iter::once(tier).chain(rules.service(service)).collect();
        Asking { caller, lease, rules }
    }

    /// Takes a request; ahead of time too if it is told under what to keep those.
    async fn take(
        &self,
        caller: &Caller,
        rules: &[&Arc<Rule>],
        lease: Option<u64>,
    ) -> (Verdict, Taken) {
        let Some(store) = &self.0.store else { return self.take_alone(caller, rules) };
        let mut asked = self.0.clock.now();
        let mut refill = None;
        for _ in 0..LOOKS_MAX {
            let Some(lease) = lease else { break };
            match self.0.leases.take(lease, rules, self.edges(), asked) {
                Step::Taken(ahead) => {
                    let decided = Decided { refused: None, granted: 1, ahead };
                    return (self.verdict(caller, rules, &decided, 1), Taken::InRedis);
                }
                Step::Ask => break,
                Step::Refill(one) => {
                    refill = Some(one);
                    break;
                }
                Step::Wait(answered) => answered.await,
            }
            asked = self.0.clock.now();
        }
        let Some(mut decided) = self.ask(store, caller, rules, refill.as_ref()).await else {
            return self.take_alone(caller, rules);
        };
        let now = self.0.clock.now();
        for (rule, ahead) in rules.iter().zip(decided.ahead) {
            self.0.callers.learn(self.key(caller, rule), ahead, now);
        }
        if let Some(refill) = refill {
            // What its caller is told is how it stands without what was taken in advance.
            decided.ahead = refill.fill(decided.granted, [asked, now], decided.ahead);
        }
        (self.verdict(caller, rules, &decided, 1), Taken::InRedis)
    }

    fn verdict(
        &self,
        caller: &Caller,
        rules: &[&Arc<Rule>],
        decided: &Decided,
        shares: u32,
    ) -> Verdict {
        if let Some((place, _)) = decided.refused {
            self.0.metrics.refuse(&rules[place].name);
        }
        Verdict::new(caller.kind, caller.id, rules, decided, shares)
    }

    async fn ask(
        &self,
        store: &Store,
        caller: &Caller,
        rules: &[&Arc<Rule>],
        refill: Option<&Refill<'_>>,
    ) -> Option<Decided> {
        if !store.is_live() || caller.id.is_none() {
            return None;
        }
        let back = refill.map_or([0; RULES_MAX], |refill| refill.back);
        let buckets = rules.iter().zip(back).filter_map(|(rule, back)| {
            let (interval, burst) = rule.micros();
            Some(Ask { bucket: caller.bucket(rule)?, interval, burst, back })
        });
        let requests = refill.map_or(1, |refill| refill.requests);
        store.take(buckets, requests, self.0.clock.for_redis()).await
    }

    /// Decides without Redis, at this edge's share.
    fn take_alone(&self, caller: &Caller, rules: &[&Arc<Rule>]) -> (Verdict, Taken) {
        let shares = self.edges();
        let decided = self.take_here(caller, rules, shares);
        (self.verdict(caller, rules, &decided, shares), Taken::Here { shares })
    }

    fn take_here(&self, caller: &Caller, rules: &[&Arc<Rule>], shares: u32) -> Decided {
        let (table, now) = (&self.0.callers, self.0.clock.now());
        let (mut refused, mut ahead) = (None, [Duration::ZERO; RULES_MAX]);
        for (place, rule) in rules.iter().enumerate() {
            let (key, rate) = (self.key(caller, rule), rule.share(shares));
            let taken = match refused {
                None => table.take(key, &rate, now),
                // Nothing more is taken; who has to wait longest is still to be found.
                Some(_) => table.wait(key, &rate, now).map_or(Ok(Duration::ZERO), Err),
            };
            if let Err(wait) = taken {
                if refused.is_none() {
                    for taken in &rules[..place] {
                        let rate = taken.share(shares);
                        table.give_back(self.key(caller, taken), &rate, now);
                    }
                }
                if refused.is_none_or(|(_, longest)| wait > longest) {
                    refused = Some((place, wait));
                }
            }
        }
        for (ahead, rule) in ahead.iter_mut().zip(rules) {
            *ahead = table.ahead(self.key(caller, rule), now);
        }
        Decided { refused, granted: refused.is_none().into(), ahead }
    }

    fn key(&self, caller: &Caller, rule: &Rule) -> u64 {
        self.0.hasher.hash_one((caller.hash, &rule.bucket))
    }

    /// Of an address's first 32 (IPv4) or 64 bits (IPv6), which is what one subscriber has.
    fn hash_of_address(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.0.hasher.hash_one(v4.to_bits()),
            IpAddr::V6(v6) => self.0.hasher.hash_one(v6.to_bits() >> 64),
        }
    }

    fn edges(&self) -> u32 {
        self.0.edges.load(Ordering::Relaxed)
    }

    fn set_edges(&self, edges: u32) {
        self.0.edges.store(edges, Ordering::Relaxed);
        self.0.metrics.edges.set(edges.into());
    }

    /// Follows the file, the number of edges, and Redis, until `stop`.
    pub(crate) async fn run(
        self,
        mut file: Option<RulesFile>,
        mesh: mesh::Mesh,
        instance: String,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let looking = async {
            loop {
                if let Some(file) = &mut file {
                    self.look(file);
                }
                self.set_edges(edges(&mesh, &instance));
                let pause = tokio::time::sleep(LOOK_EVERY);
                if stop.run_until_cancelled(pause).await.is_none() {
                    return;
                }
            }
        };
        let asking = async {
            if let Some(store) = &self.0.store {
                store.run(&stop).await;
            }
        };
        tokio::join!(looking, asking);
        Ok(())
    }

    /// Goes by a file from now on, if it has changed and can be used.
    fn look(&self, file: &mut RulesFile) {
        let result = match file.look() {
            None => return,
            Some(Ok(rules)) => {
                self.0.rules.store(Arc::new(rules));
                tracing::info!("new limits hold");
                "used"
            }
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the new limits can't be used; the old ones hold");
                "refused"
            }
        };
        self.0.metrics.reload(result);
    }
}

/// How many edges the registry knows, this one among them.
fn edges(mesh: &mesh::Mesh, own: &str) -> u32 {
    let view = mesh.view();
    let endpoints = view.endpoints.iter().map(|endpoint| &endpoint.instance);
    let others = endpoints.filter(|found| found.service == NAME && found.instance != own).count();
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
