//! Folds one partition for as long as its epoch holds: reads records, counts their clicks, commits.
//!
//! All that is in memory is dropped after any doubt, and the truth is read again from the partition's row. A partition whose
//! log is not the one that was folded from is halted, loudly, until an operator says what is lost.

use std::sync::Arc;
use std::time::Duration;

use bus::Reader;
use bus::Start;
use bus::Stored;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decode::remembered;
use super::decode::steps;
use super::fold::HEAVY_STEPS;
use super::fold::on_cpu;
use crate::domain::agent::Agents;
use crate::domain::click::Window;
use crate::domain::hot::Hot;
use crate::domain::ledger::Ledger;
use crate::metrics::Metrics;
use crate::store;
use crate::store::Store;
use crate::store::fold::Epoch;
use crate::store::leases::Place;

/// The topic that clicks come in.
pub const TOPIC: &str = bus::topics::LINK_EVENTS.name;

/// Clicks of one fold, about: a record is not taken apart for it.
const FOLD_CLICKS_MAX: usize = 20_000;
/// Bytes of one fold's records, about.
const FOLD_BYTES_MAX: usize = 8 << 20;
/// Records asked for at once.
const READ_RECORDS_MAX: usize = 1_024;
/// How long one read waits before the loop looks around.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// Folds of a partition begin at least this far apart, so that its rollups are not rewritten for each click…
const GAP_MIN: Duration = Duration::from_millis(80);
/// …and at most this far: what a click waits.
const GAP_MAX: Duration = Duration::from_millis(250);
/// Between these, the gap is this many times what the last fold took, so that a busy store gets fewer, larger folds.
const GAP_FACTOR: u32 = 8;
/// How long the record before the next offset may take to be read again.
const VERIFY_WAIT: Duration = Duration::from_secs(10);
/// How often a halted partition asks whether it may go on.
const HALT_POLL: Duration = Duration::from_millis(500);
/// The shortest and the longest wait after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What all folders of an instance share.
#[derive(Debug)]
pub struct Shared {
    /// The rollups.
    pub store: Store,
    /// The clicks.
    pub bus: bus::Bus,
    /// User agents.
    pub agents: Arc<Agents>,
    /// Which clicks are counted.
    pub window: Window,
    /// Metrics.
    pub metrics: Metrics,
    /// Folds at the same time, at most.
    pub in_flight: Semaphore,
    /// Memory for the rollups of one partition, about, in bytes.
    pub hot_bytes_max: usize,
}

/// Why a folder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The partition is no longer its own.
    Lost,
}

/// Why folding was interrupted.
#[derive(Debug)]
pub(super) enum Trouble {
    NotMine,
    Halt(String),
    Store(store::Error),
    Read(String),
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Self {
        Trouble::Store(error)
    }
}

impl From<bus::Error> for Trouble {
    fn from(error: bus::Error) -> Self {
        Trouble::Read(error.to_string())
    }
}

impl From<bus::ReadError> for Trouble {
    fn from(error: bus::ReadError) -> Self {
        match error {
            bus::ReadError::OutOfRange { .. } | bus::ReadError::Damaged(_) => {
                Trouble::Halt(error.to_string())
            }
            bus::ReadError::Unavailable(_) => Trouble::Read(error.to_string()),
        }
    }
}

/// Folds one partition.
#[derive(Debug)]
pub struct Folder {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: u32,
    pub(super) epoch: Epoch,
    pub(super) next_offset: i64,
    pub(super) ledger: Ledger,
    pub(super) hot: Hot,
    redrive: Arc<Notify>,
    /// When the last fold began, and how long it took.
    pub(super) last_fold: (Instant, Duration),
}

impl Folder {
    /// For a partition that was taken under `epoch`. `redrive` tells it that dead letters are to be folded anew.
    pub fn new(shared: Arc<Shared>, partition: u32, epoch: Epoch, redrive: Arc<Notify>) -> Folder {
        let hot = Hot::new(shared.hot_bytes_max);
        let last_fold = (Instant::now(), Duration::ZERO);
        let ledger = Ledger::default();
        Folder { shared, partition, epoch, next_offset: 0, ledger, hot, redrive, last_fold }
    }

    /// Folds until told to stop, or until the partition is someone else's.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        let mut wait = BACKOFF.0;
        loop {
            let before = self.next_offset;
            let trouble = match self.fold_from_place(&stop).await {
                Ok(()) => return Ended::Stopped,
                Err(trouble) => trouble,
            };
            self.hot.drop_all();
            if self.next_offset != before {
                wait = BACKOFF.0;
            }
            let partition = self.partition;
            match trouble {
                Trouble::NotMine => return Ended::Lost,
                Trouble::Halt(reason) => {
                    tracing::error!(
                        partition,
                        next_offset = self.next_offset,
                        reason,
                        "partition halted; `linkmesh analytics resume` states the loss and lets it go on"
                    );
                    match self.shared.store.halt(partition, self.epoch, &reason).await {
                        Ok(true) => continue,
                        Ok(false) => return Ended::Lost,
                        Err(error) => tracing::warn!(partition, %error, "can't note the halt"),
                    }
                }
                Trouble::Store(error) => {
                    tracing::warn!(partition, %error, "folding waits for the store");
                }
                Trouble::Read(error) => {
                    tracing::warn!(partition, error, "folding waits for the log");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ended::Stopped,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(BACKOFF.1),
            }
        }
    }

    /// Takes up folding where the partition stands. Returns when told to stop.
    async fn fold_from_place(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let Some(place) = self.place_when_not_halted(stop).await? else {
            return Ok(());
        };
        let mut reader = self.verified_reader(&place).await?;
        self.next_offset = place.next_offset;
        self.ledger = place.ledger;
        let mut record_bytes = 1_024;
        loop {
            let records_max = (FOLD_BYTES_MAX / record_bytes).clamp(1, READ_RECORDS_MAX);
            let mut records = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.redrive.notified() => {
                    self.redrive_requested().await?;
                    continue;
                }
                records = reader.next(records_max, IDLE_WAIT) => records?,
            };
            if !records.is_empty() {
                records = self.gather(&mut reader, records, records_max).await?;
            }
            if reader.was_cut_off() {
                let why = "it was away and may be another one: the last record is looked at again";
                return Err(Trouble::Read(why.to_owned()));
            }
            if records.is_empty() {
                continue;
            }
            record_bytes = bytes(&records) / records.len() + 1;
            let shared = Arc::clone(&self.shared);
            let permit = shared.in_flight.acquire().await;
            let _permit = permit.expect("the semaphore is never closed");
            let agents = Arc::clone(&shared.agents);
            let decoded = on_cpu(records.len() > 1 || clicks(&records) > HEAVY_STEPS, move || {
                let mut decoded = Vec::new();
                records.iter().for_each(|record| steps(record, &agents, &mut decoded));
                decoded
            });
            let decoded = decoded.await;
            self.fold(Arc::new(decoded)).await?;
        }
    }

    async fn place_when_not_halted(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<Place>, Trouble> {
        let mut halted = false;
        let place = loop {
            let place = self.shared.store.place(self.partition, self.epoch).await;
            let place = match place {
                Ok(place) => place.ok_or(Trouble::NotMine),
                Err(error) => Err(error.into()),
            };
            if !matches!(&place, Ok(Place { halt_reason: Some(_), .. })) {
                break place.map(Some);
            }
            if !halted {
                halted = true;
                self.shared.metrics.halted.inc();
            }
            tokio::select! {
                () = stop.cancelled() => break Ok(None),
                () = tokio::time::sleep(HALT_POLL) => {}
            }
        };
        if halted {
            self.shared.metrics.halted.dec();
        }
        place
    }

    /// A reader at the next offset, after the record before it was found as it was folded.
    async fn verified_reader(&self, place: &Place) -> Result<Reader, Trouble> {
        let (bus, partition, next) = (&self.shared.bus, self.partition, place.next_offset);
        let low = bus.low_offset(TOPIC, partition).await?;
        let end = bus.end_offset(TOPIC, partition).await?;
        if next < low || next > end {
            return Err(Trouble::Halt(format!(
                "offset {next} is to be folded next, but the log holds {low} to {end}"
            )));
        }
        // Retention took the record before, or the operator's resume gave it up.
        let Some(last) = place.last.as_ref().filter(|_| next > low) else {
            return Ok(bus.reader(TOPIC, partition, Start::Offset(next)).await?);
        };
        let mut reader = bus.reader(TOPIC, partition, Start::Offset(next - 1)).await?;
        let found = reader.next(1, VERIFY_WAIT).await?;
        let Some(record) = found.first() else {
            return Err(Trouble::Read(
                "the record before the next offset does not come".to_owned(),
            ));
        };
        let found = remembered(record);
        if record.offset != next - 1 || found != *last {
            return Err(Trouble::Halt(format!(
                "the log was rewritten: offset {} was folded as {last:?} and now offset {} holds {found:?}",
                next - 1,
                record.offset,
            )));
        }
        Ok(reader)
    }

    /// Adds what comes until the gap since the last fold is over, or until there is enough; under lag that is at once.
    async fn gather(
        &self,
        reader: &mut Reader,
        mut records: Vec<Stored>,
        records_max: usize,
    ) -> Result<Vec<Stored>, Trouble> {
        let (began, took) = self.last_fold;
        let due = began + (took * GAP_FACTOR).clamp(GAP_MIN, GAP_MAX);
        while bytes(&records) < FOLD_BYTES_MAX && clicks(&records) < FOLD_CLICKS_MAX {
            let wait = due.saturating_duration_since(Instant::now());
            let more = reader.next(records_max, wait).await?;
            if more.is_empty() && Instant::now() >= due {
                break;
            }
            records.extend(more);
        }
        Ok(records)
    }
}

fn bytes(records: &[Stored]) -> usize {
    records.iter().map(|record| record.value.len()).sum()
}

/// How many clicks records hold, by their headers.
fn clicks(records: &[Stored]) -> usize {
    let count = |record: &Stored| {
        bus::clicks::range(record).map_or(1, |range| range.last - range.first + 1)
    };
    records.iter().map(|record| usize::try_from(count(record)).unwrap_or(1)).sum()
}
