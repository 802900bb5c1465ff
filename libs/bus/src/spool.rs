//! The edge's spool: a checksummed log of clicks on local disk, shipped to the bus and forgotten when acknowledged.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::Bus;

/// The most bytes of a click.
pub const CLICK_BYTES_MAX: usize = 16 * 1024;

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The spool's folder, made if missing; one process at a time.
    pub folder: PathBuf,
    /// How many partitions clicks may name: those below it.
    pub partitions: u32,
    /// The most bytes on disk; a click beyond is lost and counted.
    pub bytes_max: u64,
    /// The size at which a segment is closed and the next begun.
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
    /// The click is over [`CLICK_BYTES_MAX`], or names a partition that is not there.
    #[error("the click can't be spooled: {0}")]
    Refused(&'static str),
}

/// A spool, open for appending. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool;

impl Spool {
    /// Opens the folder, finds what an earlier process left to ship, and begins a new incarnation.
    ///
    /// Metrics: `spool_bytes`, `spool_unshipped_clicks`, `spool_lost_clicks_total`, `spool_sync_seconds`.
    ///
    /// # Errors
    /// A folder that is in use by another process or can't be read or written.
    pub fn open(options: SpoolOptions, now: Timestamp, metrics: &mut Registry) -> anyhow::Result<Self> {
        let _ = (options, now, metrics);
        todo!()
    }

    /// Appends an encoded click and returns once the write has returned. One write may carry the clicks of many callers.
    ///
    /// # Errors
    /// The click is lost and counted; the redirect answers all the same.
    pub async fn append(&self, partition: u32, click: &[u8]) -> Result<(), AppendError> {
        let _ = (partition, click);
        todo!()
    }
}

/// Ships a spool to a topic.
#[derive(Debug)]
pub struct Shipper;

impl Shipper {
    /// Ships until `stop`, then until the spool is empty or `ship_at_stop_max` has passed. One at a time per spool.
    ///
    /// # Errors
    /// The shipping thread can't be started, or a record was refused by the log.
    pub async fn run(spool: Spool, bus: Bus, topic: &'static str, stop: CancellationToken) -> anyhow::Result<()> {
        let _ = (spool, bus, topic, stop);
        todo!()
    }
}
