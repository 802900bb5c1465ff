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
mod callers;
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
use crate::limits::local::Table;
use crate::limits::metrics::Metrics;
use crate::limits::rules::Rule;
use crate::limits::rules::Rules;
use crate::limits::store::Store;
use crate::limits::store::StoreMetrics;
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
        let (verdict, taken) = self.take(&caller, &all).await;
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
