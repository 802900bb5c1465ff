//! Edges that share one Redis, and callers of theirs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::registry::Registry;
use proto::analytics::v1::Salt;
use proto::common::v1::Tier;
use rpc::ApiKeyId;
use stack::Redis;
use stack::TemporaryFolder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::limits::Options;
use crate::limits::clock::Clock;
use crate::limits::rules::Rules;
use crate::limits::store;
use crate::limits::store::Store;
use crate::proved::Proved;
use crate::proved::Who;
use crate::visitors::Visitors;

/// How long Redis is waited for where the test is about what it says: a busy machine is no Redis that is away.
pub(super) const PATIENT: Duration = Duration::from_secs(5);
/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where clocks begin, of edges and of Redis.
const BEGINNING: Duration = Duration::from_hours(1_000);
/// Noon of a day.
pub(super) const NOON_MICROS: i64 = 86_400_000_000 * 20_000 + 43_200_000_000;

pub(super) struct Fleet {
    pub(super) redis: Redis,
    pub(super) edges: Vec<Limits>,
    clock: Arc<AtomicU64>,
    stop: CancellationToken,
    _running: JoinSet<()>,
    _folder: TemporaryFolder,
}

impl Fleet {
    pub(super) async fn start(edges: u32, rules: &str, wait_max: Duration) -> Self {
        let folder = TemporaryFolder::new().expect("a folder");
        let options = stack::Options::bound(folder.path().join("redis")).expect("a port");
        let redis = Redis::start(options).await.expect("Redis starts");
        let clock = clock();
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let open = |_| {
            let store = Store::open(store::Options {
                uri: redis.url(),
                wait_max,
                // The test's clock is not that by which Redis forgets.
                keep_extra: Duration::from_hours(1),
            });
            let limits = limits(rules, Some(store.expect("a URI")), &clock);
            limits.set_edges(edges);
            let (running_limits, stop) = (limits.clone(), stop.clone());
            running.spawn(async move {
                running_limits.0.store.as_ref().expect("it has one").run(&stop).await;
            });
            limits
        };
        let edges = (0..edges).map(open).collect();
        let fleet = Self { redis, edges, clock, stop, _running: running, _folder: folder };
        fleet.until_live().await;
        fleet
    }

    /// Until all edges ask Redis.
    pub(super) async fn until_live(&self) {
        let polling = async {
            while !self.edges.iter().all(is_live) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("Redis answers");
    }

    pub(super) fn pass(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).expect("short");
        self.clock.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn step_back(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).expect("short");
        self.clock.fetch_sub(micros, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_micros(self.clock.load(Ordering::Relaxed)) - BEGINNING
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn is_live(limits: &Limits) -> bool {
    limits.0.store.as_ref().is_some_and(Store::is_live)
}

pub(super) fn clock() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::try_from(BEGINNING.as_micros()).expect("short")))
}

pub(super) fn limits(rules: &str, store: Option<Store>, clock: &Arc<AtomicU64>) -> Limits {
    let visitors = Visitors::default();
    let day = i32::try_from(NOON_MICROS / 86_400_000_000).expect("small");
    visitors.install(&[Salt { day, key: vec![7; 16] }], NOON_MICROS);
    let options =
        Options { file: None, redis: None, wait_max: PATIENT, draft_headers: false, visitors };
    let rules = Rules::parse(rules).expect("good rules");
    let clock = Clock::Told(Arc::clone(clock));
    Limits::with(options, store, rules, clock, &mut Registry::default())
}

pub(super) fn caller(tier: Tier) -> Proved {
    let metadata = HeaderValue::from_static("any");
    Proved { metadata, who: Who::Key(ApiKeyId::new()), tier }
}

/// Whether a request is let in, and otherwise by which limit it is not.
pub(super) async fn ask(edge: &Limits, caller: &Proved, service: &str) -> Result<(), String> {
    let refused = edge.caller(caller, service).await.check();
    refused.map_err(|error| error.metadata[0].1.clone())
}

/// How many of so many requests are let in.
pub(super) async fn let_in(edge: &Limits, caller: &Proved, service: &str, asked: usize) -> usize {
    let mut let_in = 0;
    for _ in 0..asked {
        let_in += usize::from(ask(edge, caller, service).await.is_ok());
    }
    let_in
}
