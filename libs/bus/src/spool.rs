//! The edge's spool: a checksummed log of clicks on local disk, shipped to the bus and forgotten when acknowledged.
//!
//! There is one writer ([`journal`]), and no append returns before its write(2) has: what was answered survives the
//! process. Everything a spool numbers it numbers once: an incarnation (one per start and per UTC day) gives each
//! partition's clicks 1, 2, 3, … without holes, in the frame on disk, and whoever ships a frame, now or after a crash, ships
//! it under that incarnation and number. See section 7 of the design.

mod commit;
mod disk;
mod frame;
mod journal;
mod lanes;
mod ledger;
mod leftover;
mod metrics;
mod scan;
mod shipper;
mod syncer;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use prometheus_client::registry::Registry;

use crate::spool::commit::Commit;
use crate::spool::disk::Disk;
use crate::spool::disk::LocalDisk;
use crate::spool::journal::Journal;
use crate::spool::ledger::Ledger;
use crate::spool::leftover::Leftover;
use crate::spool::metrics::Metrics;
use crate::spool::syncer::Syncer;
use crate::topics::PARTITIONS_MAX;

pub use shipper::Shipper;

/// The most bytes of a click.
pub const CLICK_BYTES_MAX: usize = 16 * 1024;

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The spool's folder, made if missing; one process at a time.
    pub folder: PathBuf,
    /// How many partitions clicks may name: those below it; 1 to [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// The most bytes on disk; a click beyond is lost and counted.
    pub bytes_max: u64,
    /// The size at which a segment is closed and the next begun. It bounds what is shipped twice after a crash.
    pub segment_bytes_max: u64,
    /// How often what was written is synced: what a power failure may take, nothing less does.
    pub sync_every: Duration,
    /// How long [`Shipper::run`] goes on shipping once it is told to stop.
    pub ship_at_stop_max: Duration,
}

impl SpoolOptions {
    /// The defaults in this folder: 24 partitions, 8 GiB, segments of 8 MiB, synced every 100 ms, 10 s to ship at a stop.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            partitions: crate::topics::LINK_EVENTS.partitions,
            bytes_max: 8 << 30,
            segment_bytes_max: 8 << 20,
            sync_every: Duration::from_millis(100),
            ship_at_stop_max: Duration::from_secs(10),
        }
    }
}

/// Why a click was not written. It is counted in `spool_lost_clicks_total` already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The spool has reached its bound on disk.
    #[error("the spool is full")]
    Full,
    /// The disk refused, twice.
    #[error("the spool can't be written: {0}")]
    Failed(String),
    /// Too many clicks wait for a disk that has stalled.
    #[error("the spool's disk is too far behind")]
    Behind,
    /// The click is over [`CLICK_BYTES_MAX`], or names a partition that is not there.
    #[error("the click can't be spooled: {0}")]
    Refused(&'static str),
}

/// A spool, open for appending. Cheap to clone; the last clone dropped syncs it and frees the folder.
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Dropped first: it syncs what was written, while the folder is still locked.
    _syncer: Syncer,
    commit: Arc<Commit>,
    ledger: Arc<Ledger>,
    partitions: u32,
    ship_at_stop_max: Duration,
    /// A shipper runs.
    shipping: AtomicBool,
    _lock: File,
}

impl Spool {
    /// Opens the folder, finds what an earlier process left to ship, and begins a new incarnation.
    ///
    /// Metrics: `spool_bytes`, `spool_unshipped_clicks`, `spool_lost_clicks_total`, `spool_shipped_clicks_total`,
    /// `spool_shipped_records_total`, `spool_sync_seconds`.
    ///
    /// # Errors
    /// A folder that is in use by another process or can't be read or written.
    pub fn open(
        options: SpoolOptions,
        now: Timestamp,
        metrics: &mut Registry,
    ) -> anyhow::Result<Self> {
        Self::open_on(Arc::new(LocalDisk), options, now, metrics)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        now: Timestamp,
        metrics: &mut Registry,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (1..=PARTITIONS_MAX).contains(&options.partitions),
            "a spool has 1 to {PARTITIONS_MAX} partitions, not {}",
            options.partitions
        );
        std::fs::create_dir_all(&options.folder)
            .with_context(|| format!("spool folder {} can't be made", options.folder.display()))?;
        let lock = crate::folder::lock(&options.folder)?;
        let leftover = Leftover::find(&options.folder)?;
        if !leftover.segments.is_empty() {
            tracing::info!(
                segments = leftover.segments.len(),
                bytes = leftover.bytes,
                "spool has clicks of an earlier process to ship"
            );
        }
        let metrics = Metrics::register(metrics);
        metrics.lost.inc_by(leftover.lost);
        let ledger = Arc::new(Ledger::new(leftover.segments, leftover.bytes, metrics));
        let journal = Journal::new(
            &options,
            Arc::clone(&disk),
            Arc::clone(&ledger),
            leftover.next_sequence,
            now,
        );
        let commit = Arc::new(Commit::new(journal, ledger.metrics.lost.clone()));
        let syncer = Syncer::start(
            options.sync_every,
            options.folder,
            disk,
            Arc::clone(&ledger),
            Arc::clone(&commit),
        )?;
        let inner = Inner {
            _syncer: syncer,
            commit,
            ledger,
            partitions: options.partitions,
            ship_at_stop_max: options.ship_at_stop_max,
            shipping: AtomicBool::new(false),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends an encoded click and returns once the write has returned. One write may carry the clicks of many callers.
    ///
    /// Dropping the future does not take the click back.
    ///
    /// # Errors
    /// The click is lost and counted; the redirect answers all the same.
    pub async fn append(&self, partition: u32, click: &[u8]) -> Result<(), AppendError> {
        let refused = if partition >= self.inner.partitions {
            Some("there is no such partition")
        } else if click.len() > CLICK_BYTES_MAX {
            Some("it is too long")
        } else {
            None
        };
        if let Some(why) = refused {
            self.inner.ledger.metrics.lost.inc();
            return Err(AppendError::Refused(why));
        }
        self.inner.commit.append(partition, click).await
    }

    /// Begins a new incarnation if a UTC day has begun since the last one began. The spool does so by itself, by the
    /// machine's clock.
    pub fn roll_day(&self, now: Timestamp) {
        self.inner.commit.roll_day(now);
    }
}
