//! The end of the topic, read once per instance for all who watch clicks there.
//!
//! Every instance reads all partitions itself, so a watcher sees every click whichever instance it asked. The reading begins with
//! the first watcher and ends some time after the last. Nothing here counts anything.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::Reader;
use bus::Start;
use bus::Stored;
use bus::clicks;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::decode;
use super::folder::TOPIC;
use crate::domain::agent::Agents;
use crate::domain::click::Click;
use crate::domain::ledger::Incarnation;
use crate::metrics::Metrics;

/// Watchers of one instance.
pub const WATCHERS_MAX: usize = 500;
/// Clicks that wait for one watcher.
pub const WAITING_MAX: usize = 10_000;
/// Records read at once.
const RECORDS_MAX: usize = 256;
/// How long one read waits.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How long the reading goes on without a watcher.
const LINGER: Duration = Duration::from_secs(30);
/// How long after an error it begins anew.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often new partitions are looked for.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// Incarnations of a partition whose clicks are recognised when they come again.
const INCARNATIONS_MAX: usize = 10_000;

/// A click at its place in the topic.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: i64,
    /// The click's place in the record, from 0.
    pub index: u32,
    /// The click.
    pub click: Arc<Click>,
}

/// Which clicks somebody wants to see.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Of this workspace.
    pub workspace: [u8; 16],
    /// Of these links; none means all.
    pub links: HashSet<[u8; 16]>,
}

impl Filter {
    /// Whether it wants a click.
    pub fn wants(&self, click: &Click) -> bool {
        click.workspace == self.workspace
            && (self.links.is_empty() || self.links.contains(&click.link))
    }
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    clicks: mpsc::Sender<Placed>,
    fell_behind: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    watchers: HashMap<u64, Watcher>,
    /// By partition, the offset that is read next; empty while nothing is read.
    positions: Vec<i64>,
}

/// What watchers and the reading share.
#[derive(Debug)]
pub struct Tail {
    /// The log.
    pub bus: bus::Bus,
    /// User agents.
    pub agents: Arc<Agents>,
    metrics: Metrics,
    state: Mutex<State>,
    next_id: AtomicU64,
    wanted: Notify,
    /// Whether the topic's ends are known and being read from.
    reading: watch::Sender<bool>,
}

/// A watcher's end of the tail. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Subscription {
    tail: Arc<Tail>,
    id: u64,
    /// The clicks from `from` on.
    pub clicks: mpsc::Receiver<Placed>,
    /// By partition, the offset from which on clicks come; new partitions begin at 0.
    pub from: Vec<i64>,
    fell_behind: Arc<AtomicBool>,
}

/// A full instance takes no more watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS_MAX} watchers are the most that one instance takes")]
pub struct Full;

impl Tail {
    /// Reads nothing before [`Tail::run`] and a watcher.
    pub fn new(bus: bus::Bus, agents: Arc<Agents>, metrics: Metrics) -> Arc<Tail> {
        Arc::new(Tail {
            bus,
            agents,
            metrics,
            state: Mutex::default(),
            next_id: AtomicU64::new(0),
            wanted: Notify::new(),
            reading: watch::Sender::new(false),
        })
    }

    /// Subscribes to clicks from now on. Waits until the topic's end is known; the caller bounds the wait.
    pub async fn subscribe(self: &Arc<Tail>, filter: Filter) -> Result<Subscription, Full> {
        let mut reading = self.reading.subscribe();
        loop {
            self.wanted.notify_one();
            // An error would mean that the tail is gone, and it is borrowed here.
            if reading.wait_for(|reading| *reading).await.is_ok()
                && let Some(subscribed) = self.join(&filter)
            {
                return subscribed;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Nothing: the reading ended meanwhile.
    fn join(self: &Arc<Tail>, filter: &Filter) -> Option<Result<Subscription, Full>> {
        let mut state = self.state();
        if state.positions.is_empty() {
            return None;
        }
        if state.watchers.len() >= WATCHERS_MAX {
            return Some(Err(Full));
        }
        let (sender, clicks) = mpsc::channel(WAITING_MAX);
        let fell_behind = Arc::new(AtomicBool::new(false));
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let fell_behind_too = Arc::clone(&fell_behind);
        let watcher =
            Watcher { filter: filter.clone(), clicks: sender, fell_behind: fell_behind_too };
        state.watchers.insert(id, watcher);
        self.metrics.watchers.inc();
        let from = state.positions.clone();
        Some(Ok(Subscription { tail: Arc::clone(self), id, clicks, from, fell_behind }))
    }

    /// Reads for watchers until told to stop.
    pub async fn run(self: Arc<Tail>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wanted.notified() => {}
            }
            let ended = tokio::select! {
                () = stop.cancelled() => break,
                ended = self.read() => ended,
            };
            self.cut_off();
            if let Err(error) = ended {
                tracing::warn!(error, "watchers are cut off and may resume");
                self.wanted.notify_one();
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RETRY_WAIT) => {}
                }
            }
        }
        self.cut_off();
    }

    /// Reads all partitions until nobody watches any more.
    async fn read(self: &Arc<Tail>) -> Result<(), String> {
        let count = self.bus.partitions(TOPIC).await.map_err(|error| error.to_string())?;
        let mut readers = Vec::new();
        for partition in 0..count {
            let reader = self.bus.reader(TOPIC, partition, Start::End).await;
            readers.push(reader.map_err(|error| error.to_string())?);
        }
        self.state().positions = readers.iter().map(Reader::position).collect();
        self.reading.send_replace(true);
        let mut partitions = JoinSet::new();
        for (partition, reader) in (0..).zip(readers) {
            partitions.spawn(Arc::clone(self).read_partition(partition, reader));
        }
        let mut idle_since = None;
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        let mut watch_idleness = tokio::time::interval(LINGER / 10);
        loop {
            tokio::select! {
                Some(failed) = partitions.join_next() => {
                    return Err(failed.unwrap_or_else(|panic| panic.to_string()));
                }
                _ = look_around.tick() => {
                    let known = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
                    // A log that is away now has no news.
                    let count = self.bus.partitions(TOPIC).await.unwrap_or(known);
                    for partition in known..count {
                        let reader = self.bus.reader(TOPIC, partition, Start::Offset(0)).await;
                        let reader = reader.map_err(|error| error.to_string())?;
                        self.state().positions.push(0);
                        partitions.spawn(Arc::clone(self).read_partition(partition, reader));
                    }
                }
                _ = watch_idleness.tick() => {
                    if !self.state().watchers.is_empty() {
                        idle_since = None;
                        continue;
                    }
                    let since = *idle_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() >= LINGER {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads one partition; returns only what went wrong.
    async fn read_partition(self: Arc<Tail>, partition: u32, mut reader: Reader) -> String {
        let mut seen: HashMap<Incarnation, u64> = HashMap::new();
        loop {
            let records = match reader.next(RECORDS_MAX, READ_WAIT).await {
                Ok(records) => records,
                Err(bus::ReadError::Unavailable(_)) => {
                    tokio::time::sleep(RETRY_WAIT).await;
                    continue;
                }
                Err(error) => return error.to_string(),
            };
            let mut placed = Vec::new();
            for record in &records {
                place(record, partition, &self.agents, &mut seen, &mut placed);
            }
            if let Some(last) = records.last() {
                self.deliver(partition, last.offset + 1, placed);
            }
        }
    }

    fn deliver(&self, partition: u32, next: i64, placed: Vec<Placed>) {
        let mut state = self.state();
        let State { watchers, positions } = &mut *state;
        for placed in placed {
            watchers.retain(|_, watcher| {
                if !watcher.filter.wants(&placed.click) {
                    return true;
                }
                match watcher.clicks.try_send(placed.clone()) {
                    Ok(()) => true,
                    Err(mpsc::error::TrySendError::Closed(_)) => true,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        watcher.fell_behind.store(true, Ordering::Relaxed);
                        self.metrics.watchers.dec();
                        false
                    }
                }
            });
        }
        if let Some(position) = positions.get_mut(partition as usize) {
            *position = next;
        }
    }

    fn cut_off(&self) {
        let mut state = self.state();
        self.metrics.watchers.dec_by(i64::try_from(state.watchers.len()).unwrap_or(0));
        *state = State::default();
        self.reading.send_replace(false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }
}

impl Subscription {
    /// It was too slow, and misses clicks from here on.
    pub fn fell_behind(&self) -> bool {
        self.fell_behind.load(Ordering::Relaxed)
    }

    /// By partition, the offset before which everything has been taken out of `clicks`; nothing while clicks wait there.
    pub fn positions(&self) -> Option<Vec<i64>> {
        let state = self.tail.state();
        let current = state.watchers.contains_key(&self.id) && self.clicks.is_empty();
        current.then(|| state.positions.clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.tail.state().watchers.remove(&self.id).is_some() {
            self.tail.metrics.watchers.dec();
        }
    }
}

/// The clicks of a record, without those that `seen` knows already.
pub(super) fn place(
    record: &Stored,
    partition: u32,
    agents: &Agents,
    seen: &mut HashMap<Incarnation, u64>,
    into: &mut Vec<Placed>,
) {
    // What can't be read becomes a dead letter elsewhere; there is nothing to watch in it.
    let Ok(batch) = clicks::decode(record) else { return };
    let incarnation = batch.incarnation.into_bytes();
    if seen.len() >= INCARNATIONS_MAX && !seen.contains_key(&incarnation) {
        seen.clear();
    }
    let highest = seen.entry(incarnation).or_default();
    for ((index, number), payload) in (0u32..).zip(batch.first..).zip(&batch.clicks) {
        if number <= *highest {
            continue;
        }
        *highest = number;
        if let Ok(click) = decode::click(payload, agents) {
            into.push(Placed { partition, offset: record.offset, index, click: Arc::new(click) });
        }
    }
}
