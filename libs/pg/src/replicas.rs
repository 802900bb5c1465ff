//! Which replica may answer a read, by positions in the log and our own monotonic clock; no server's clock is trusted.
//!
//! The rule: a sample is the primary's log position and the moment before it was asked for. A replica that has
//! replayed up to a sample's position holds every transaction committed before that moment, so its staleness is at
//! most the sample's age. Positions only grow, so what was learnt stays true; it is asked again, by whoever reads,
//! when it is older than [`PROBE_INTERVAL`] or too old for the reader.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::Lsn;

/// A replica that was heard of so recently needs no question.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// The longest wait for the primary's and a replica's positions.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// A replica that did not answer is left alone for so long.
const DOWN_TIME: Duration = Duration::from_secs(5);
/// Samples of the primary kept; at one per interval they span 16 s of replication lag.
const SAMPLES_MAX: usize = 64;

/// What a reader demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The primary: sees every committed write.
    #[default]
    Primary,
    /// Any server that lags by this much at most.
    MaxStaleness(Duration),
    /// Any server that has replayed this position: a reader's own earlier write.
    AtLeast(Lsn),
}

#[derive(Debug)]
pub(crate) struct Replicas {
    primary: PgPool,
    replicas: Vec<Replica>,
    samples: Mutex<VecDeque<Sample>>,
    next: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    position: Lsn,
    taken: Instant,
}

#[derive(Debug)]
struct Replica {
    pool: PgPool,
    state: Mutex<State>,
    /// One prober at a time; the others go to the primary or by what is known.
    probing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    replayed: Option<Lsn>,
    /// Everything committed before this moment is there.
    fresh_as_of: Option<Instant>,
    heard: Option<Instant>,
    down_until: Option<Instant>,
}

impl State {
    fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }

    fn was_heard_lately(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.duration_since(heard) < PROBE_INTERVAL)
    }

    fn satisfies(&self, consistency: &Consistency, now: Instant) -> bool {
        match consistency {
            Consistency::Primary => false,
            Consistency::MaxStaleness(most) => {
                self.fresh_as_of.is_some_and(|moment| now.duration_since(moment) <= *most)
            }
            Consistency::AtLeast(position) => {
                self.replayed.is_some_and(|replayed| replayed >= *position)
            }
        }
    }
}

impl Replicas {
    pub(crate) fn new(primary: PgPool, pools: Vec<PgPool>) -> Self {
        let replicas = pools
            .into_iter()
            .map(|pool| Replica {
                pool,
                state: Mutex::default(),
                probing: tokio::sync::Mutex::default(),
            })
            .collect();
        Self { primary, replicas, samples: Mutex::default(), next: AtomicUsize::new(0) }
    }

    /// A replica that satisfies the demand now, if one is known to.
    pub(crate) async fn choose(&self, consistency: &Consistency) -> Option<&PgPool> {
        if *consistency == Consistency::Primary || self.replicas.is_empty() {
            return None;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.replicas.len() {
            let replica = &self.replicas[first.wrapping_add(offset) % self.replicas.len()];
            let state = replica.known();
            let now = Instant::now();
            if state.is_down(now) {
                continue;
            }
            if state.was_heard_lately(now) && state.satisfies(consistency, now) {
                return Some(&replica.pool);
            }
            let Ok(_turn) = replica.probing.try_lock() else { continue };
            self.probe(replica).await;
            let state = replica.known();
            let now = Instant::now();
            if !state.is_down(now) && state.satisfies(consistency, now) {
                return Some(&replica.pool);
            }
        }
        None
    }

    pub(crate) async fn close(&self) {
        for replica in &self.replicas {
            replica.pool.close().await;
        }
    }

    async fn probe(&self, replica: &Replica) {
        let taken = Instant::now();
        let positions = async {
            // The primary first: a replica that is asked later can only have replayed more.
            let primary = written(&self.primary).await.ok();
            (primary, replayed(&replica.pool).await)
        };
        let (primary, answer) = match tokio::time::timeout(PROBE_TIMEOUT, positions).await {
            Ok((primary, Ok(Some(position)))) => (primary, Some(position)),
            // Null is a server that replays nothing: no replica (any more). Its data may be anything.
            Ok((primary, Ok(None) | Err(_))) => (primary, None),
            Err(_elapsed) => (None, None),
        };
        if let Some(position) = primary {
            self.remember(Sample { position, taken });
        }
        let now = Instant::now();
        let fresh_as_of = answer.and_then(|position| self.latest_before(position));
        let mut state = replica.state.lock().expect("no panic while held");
        let Some(position) = answer else {
            state.down_until = Some(now + DOWN_TIME);
            return;
        };
        // Assigned, not maximised: a replica that was rebuilt from a backup starts again further back.
        *state =
            State { replayed: Some(position), fresh_as_of, heard: Some(now), down_until: None };
    }

    fn remember(&self, sample: Sample) {
        let mut samples = self.samples.lock().expect("no panic while held");
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn latest_before(&self, position: Lsn) -> Option<Instant> {
        let samples = self.samples.lock().expect("no panic while held");
        samples.iter().filter(|s| s.position <= position).map(|s| s.taken).max()
    }
}

impl Replica {
    fn known(&self) -> State {
        *self.state.lock().expect("no panic while held")
    }
}

/// The end of the primary's log, transactions in flight included: never before a committed one.
pub(crate) async fn written(primary: &PgPool) -> Result<Lsn, sqlx::Error> {
    let (text,): (String,) =
        sqlx::query_as("SELECT pg_current_wal_insert_lsn()::text").fetch_one(primary).await?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

async fn replayed(replica: &PgPool) -> Result<Option<Lsn>, sqlx::Error> {
    let (text,): (Option<String>,) = sqlx::query_as(
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END",
    )
    .fetch_one(replica)
    .await?;
    text.map(|text| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).transpose()
}
