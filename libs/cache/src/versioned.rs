//! The cache itself: what a look-up finds, who reads the source for all who wait, and what a change outdates.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use futures_util::future::WeakShared;
use rapidhash::fast::RandomState;

use crate::L2;
use crate::Metrics;
use crate::entry::Entry;
use crate::entry::Filled;
use crate::entry::Stored;
use crate::metrics::Cells;
use crate::shard::Offer;
use crate::shard::Shard;

/// Shards of L1: enough that requests rarely meet at one.
const SHARDS: usize = 64;

/// How long after a retry is due the source still counts as failing. Later nobody knows whether it answers again, so
/// nobody is served a stale entry before it was asked.
const FAILING_MICROS: i64 = 5_000_000;

/// How a cache behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in metrics and in L2's keys.
    pub name: &'static str,
    /// How long an answer is fresh, from the read on the primary. At most 30 s: versions are remembered for 60 s.
    pub ttl: Duration,
    /// How old an answer may be that is served while the source can't answer.
    pub stale_max: Duration,
    /// Entries in this process at most.
    pub entries_max: usize,
    /// How many leading bytes of a key versions are counted under; `None`: all of them.
    pub scope_bytes: Option<usize>,
}

pub(crate) type Answer<V, E> = Result<Arc<Entry<V>>, E>;
type Flight<V, E> = Pin<Box<dyn Future<Output = Answer<V, E>> + Send>>;
type Flights<V, E> = HashMap<Arc<[u8]>, WeakShared<Flight<V, E>>>;

/// A versioned cache of `V`, read from a source that fails with `E`. Cheap to clone.
pub struct Versioned<V, E>(Arc<Inner<V, E>>);

pub(crate) struct Inner<V, E> {
    pub(crate) options: Options,
    pub(crate) ttl_micros: i64,
    /// From this age on, one request reads the source anew while the others are served what is here.
    refresh_micros: i64,
    pub(crate) stale_micros: i64,
    hasher: RandomState,
    shards: Vec<RwLock<Shard<V>>>,
    flights: Mutex<Flights<V, E>>,
    /// What was read before this moment is read again; see [`Versioned::doubt`].
    doubt_micros: AtomicI64,
    pub(crate) l2: Option<L2>,
    pub(crate) cells: Arc<Cells>,
}

/// What L1 says.
enum Lookup<V> {
    /// Serve it.
    Fresh(Arc<Entry<V>>),
    /// Serve it, or read the source if nobody does.
    Ageing(Arc<Entry<V>>),
    Missing,
}

impl<V: Stored, E: Clone + Send + Sync + 'static> Versioned<V, E> {
    /// An empty cache over `l2`, if there is one.
    ///
    /// # Panics
    /// If `ttl` exceeds 30 s, which versions are not remembered long enough for.
    #[must_use]
    pub fn new(options: Options, l2: Option<L2>, metrics: &Metrics) -> Self {
        assert!(options.ttl <= Duration::from_secs(30), "versions are remembered for 60 s");
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let entries_max = options.entries_max.div_ceil(SHARDS);
        Self(Arc::new(Inner {
            ttl_micros: micros(options.ttl),
            refresh_micros: micros(options.ttl * 4 / 5),
            stale_micros: micros(options.stale_max),
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::new(entries_max))).collect(),
            flights: Mutex::new(HashMap::new()),
            doubt_micros: AtomicI64::new(i64::MIN),
            l2,
            cells: metrics.add(options.name),
            options,
        }))
    }

    /// What is here and needs no reading, without waiting or allocating.
    #[must_use]
    pub fn peek(&self, key: &[u8], now_micros: i64) -> Option<Arc<Entry<V>>> {
        match self.0.lookup(key, now_micros) {
            Lookup::Fresh(entry) => {
                self.0.cells.l1.hit();
                Some(entry)
            }
            Lookup::Ageing(_) | Lookup::Missing => None,
        }
    }

    /// What is here, however old it is. Nothing is read and nothing counted.
    #[must_use]
    pub fn held(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.0.shard(key).get(key).cloned()
    }

    /// What is known of `key`, reading L2 or the source if need be; requests for one key share a read. `read` must have a
    /// deadline of its own.
    ///
    /// # Errors
    /// What the source failed with, if nothing young enough is here to serve instead.
    pub async fn get<F>(
        &self,
        key: &[u8],
        now_micros: i64,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> Answer<V, E>
    where
        F: Future<Output = Result<Filled<V>, E>> + Send + 'static,
    {
        let cells = &self.0.cells;
        let flight = match self.0.lookup(key, now_micros) {
            Lookup::Fresh(entry) => {
                cells.l1.hit();
                return Ok(entry);
            }
            Lookup::Ageing(entry) => {
                cells.l1.hit();
                let (flight, is_new) = self.join(key, now_micros, read);
                if !is_new {
                    return Ok(entry);
                }
                flight
            }
            Lookup::Missing => {
                cells.l1.miss();
                self.join(key, now_micros, read).0
            }
        };
        let entry = flight.await?;
        // A change may have come between the end of the flight and here.
        let newer = self.0.shard(key).get(key).filter(|held| held.version > entry.version).cloned();
        Ok(newer.unwrap_or(entry))
    }

    /// Keeps an answer that was read for another reason, unless a higher version was seen.
    pub async fn offer(&self, key: &[u8], filled: Filled<V>, now_micros: i64) {
        let forgotten = self.0.shard(key).forgotten();
        if let Offer::Kept(entry) = self.0.keep(key, filled, forgotten, now_micros) {
            self.0.share(&[(key, &entry)], now_micros).await;
        }
    }

    /// Takes notice of changes with their new values: entries that are here become them, in L2 too, and nothing older
    /// returns. Needs keys whose versions are their own (no `scope_bytes`).
    pub async fn apply(&self, changes: Vec<(Vec<u8>, Filled<V>)>, now_micros: i64) {
        let entries: Vec<(Vec<u8>, Arc<Entry<V>>)> = changes
            .into_iter()
            .map(|(key, filled)| {
                let entry = Arc::new(Entry::new(filled));
                self.0.shard_mut(&key).replace(&key, &entry, now_micros);
                (key, entry)
            })
            .collect();
        let shared: Vec<(&[u8], &Arc<Entry<V>>)> =
            entries.iter().map(|(key, entry)| (key.as_slice(), entry)).collect();
        self.0.share(&shared, now_micros).await;
    }

    /// Takes notice of a change without a new value: what is here under `scope` with a lower version is dropped, and
    /// nothing older returns.
    pub fn outdate(&self, scope: &[u8], version: i64, now_micros: i64) {
        self.0.shard_mut(scope).outdate(scope, version, now_micros);
    }

    /// Trusts nothing that was read before now, because changes since then may have been missed: such an entry is read
    /// again, and served only if the source can't answer.
    pub fn doubt(&self, now_micros: i64) {
        self.0.doubt_micros.fetch_max(now_micros, Ordering::Relaxed);
    }

    /// The flight for `key`, and whether it begins with this call.
    fn join<F>(
        &self,
        key: &[u8],
        now_micros: i64,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> (Shared<Flight<V, E>>, bool)
    where
        F: Future<Output = Result<Filled<V>, E>> + Send + 'static,
    {
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key).and_then(WeakShared::upgrade) {
            return (flight, false);
        }
        let key: Arc<[u8]> = key.into();
        let landing = Landing { inner: Arc::clone(&self.0), key: Arc::clone(&key) };
        let flight: Flight<V, E> =
            Box::pin(async move { landing.inner.fill(&landing.key, now_micros, read).await });
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        (flight, true)
    }
}

impl<V: Stored, E: Clone + Send + Sync + 'static> Inner<V, E> {
    fn scope_bytes(&self, key: &[u8]) -> usize {
        self.options.scope_bytes.unwrap_or(key.len()).min(key.len())
    }

    fn lock(&self, key: &[u8]) -> &RwLock<Shard<V>> {
        let hash = self.hasher.hash_one(&key[..self.scope_bytes(key)]);
        let index = usize::try_from(hash % SHARDS as u64).expect("below 64");
        &self.shards[index]
    }

    pub(crate) fn shard(&self, key: &[u8]) -> RwLockReadGuard<'_, Shard<V>> {
        self.lock(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_mut(&self, key: &[u8]) -> RwLockWriteGuard<'_, Shard<V>> {
        self.lock(key).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lookup(&self, key: &[u8], now_micros: i64) -> Lookup<V> {
        let Some(entry) = self.shard(key).get(key).cloned() else { return Lookup::Missing };
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        let age_micros = entry.age_micros(now_micros);
        if entry.has_failed() && age_micros < self.stale_micros {
            let retry_micros = entry.retry_micros.load(Ordering::Relaxed);
            if now_micros < retry_micros {
                return Lookup::Fresh(entry);
            }
            if now_micros < retry_micros.saturating_add(FAILING_MICROS) {
                return Lookup::Ageing(entry);
            }
        }
        if self.is_doubted(entry.read_micros) {
            return Lookup::Missing;
        }
        if age_micros < self.refresh_micros {
            return Lookup::Fresh(entry);
        }
        if age_micros < self.ttl_micros {
            return Lookup::Ageing(entry);
        }
        Lookup::Missing
    }

    pub(crate) fn is_doubted(&self, read_micros: i64) -> bool {
        read_micros < self.doubt_micros.load(Ordering::Relaxed)
    }

    pub(crate) fn keep(
        &self,
        key: &[u8],
        mut filled: Filled<V>,
        forgotten: u64,
        now_micros: i64,
    ) -> Offer<V> {
        // A primary whose clock is ahead of ours must not make an entry live longer.
        filled.read_micros = filled.read_micros.min(now_micros);
        let entry = Entry::new(filled);
        let scope_bytes = self.scope_bytes(key);
        self.shard_mut(key).offer(key, scope_bytes, entry, forgotten, now_micros)
    }
}

/// Takes a flight out of the list when it lands, or when nobody waits for it any more.
struct Landing<V, E> {
    inner: Arc<Inner<V, E>>,
    key: Arc<[u8]>,
}

impl<V, E> Drop for Landing<V, E> {
    fn drop(&mut self) {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V, E> Clone for Versioned<V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V, E> fmt::Debug for Versioned<V, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Versioned")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
