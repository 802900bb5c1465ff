//! What writer, syncer and shipper know in common: which segments there are and how far each is written.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::spool::disk::SegmentFile;
use crate::spool::metrics::Metrics;

/// One segment on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) incarnation: Uuid,
    pub(crate) path: PathBuf,
    /// An earlier process wrote it: nobody has counted its clicks yet, and its tail may be torn.
    pub(crate) leftover: bool,
    /// Whole frames end here. What an earlier process left may have a torn tail: then this is the file's length.
    written: AtomicU64,
    /// Nothing will be appended any more.
    sealed: AtomicBool,
}

impl Segment {
    /// A segment to be appended to, with `written` bytes in it.
    pub(crate) fn new(sequence: u64, incarnation: Uuid, path: PathBuf, written: u64) -> Self {
        let (written, sealed) = (AtomicU64::new(written), AtomicBool::new(false));
        Self { sequence, incarnation, path, leftover: false, written, sealed }
    }

    /// A segment of an earlier process: sealed.
    pub(crate) fn leftover(sequence: u64, incarnation: Uuid, path: PathBuf, bytes: u64) -> Self {
        let (written, sealed) = (AtomicU64::new(bytes), AtomicBool::new(true));
        Self { sequence, incarnation, path, leftover: true, written, sealed }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// How long the segment is, if that is final.
    pub(crate) fn final_bytes(&self) -> Option<u64> {
        // Sealed is read first: what was written before the seal is then seen as well.
        self.sealed.load(Ordering::Acquire).then(|| self.written())
    }

    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }
}

/// A segment whose bytes may not be durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn SegmentFile>,
    pub(crate) synced_bytes: u64,
}

/// What the spool's parts share.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// In the order of their sequence. Bounded by the spool's bytes: an empty segment is not followed by another.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    /// Appended to by the writer, drained by the syncer.
    unsynced: Mutex<Vec<Unsynced>>,
    /// On disk, damaged segments that were put aside included.
    bytes: AtomicU64,
    /// The disk refused to sync: what comes next goes into another segment.
    pub(crate) roll_wanted: AtomicBool,
    /// Something was written.
    pub(crate) written: Notify,
    pub(crate) metrics: Metrics,
}

impl Ledger {
    pub(crate) fn new(segments: VecDeque<Arc<Segment>>, bytes: u64, metrics: Metrics) -> Self {
        metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self {
            segments: Mutex::new(segments),
            unsynced: Mutex::new(Vec::new()),
            bytes: AtomicU64::new(bytes),
            roll_wanted: AtomicBool::new(false),
            written: Notify::new(),
            metrics,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn opened(&self, segment: &Arc<Segment>, file: &Arc<dyn SegmentFile>) {
        self.add_bytes(segment.written());
        let unsynced =
            Unsynced { segment: Arc::clone(segment), file: Arc::clone(file), synced_bytes: 0 };
        lock(&self.unsynced).push(unsynced);
        lock(&self.segments).push_back(Arc::clone(segment));
    }

    /// Publishes what was appended to the segment.
    pub(crate) fn appended(&self, segment: &Segment, bytes: u64, clicks: usize) {
        segment.written.fetch_add(bytes, Ordering::Release);
        self.add_bytes(bytes);
        self.metrics.unshipped.inc_by(i64::try_from(clicks).expect("a batch is small"));
        self.written.notify_one();
    }

    /// The first segment after this sequence.
    pub(crate) fn segment_after(&self, sequence: Option<u64>) -> Option<Arc<Segment>> {
        let segments = lock(&self.segments);
        let after = |segment: &&Arc<Segment>| sequence.is_none_or(|last| segment.sequence > last);
        segments.iter().find(after).map(Arc::clone)
    }

    /// Forgets a segment and removes its file.
    pub(crate) fn remove(&self, sequence: u64) {
        let mut segments = lock(&self.segments);
        let Some(index) = segments.iter().position(|segment| segment.sequence == sequence) else {
            return;
        };
        let segment = segments.remove(index).expect("it was just found");
        drop(segments);
        if let Err(error) = std::fs::remove_file(&segment.path) {
            tracing::error!(path = %segment.path.display(), %error, "shipped segment can't be removed");
            return;
        }
        let bytes = segment.written();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn take_unsynced(&self) -> Vec<Unsynced> {
        std::mem::take(&mut lock(&self.unsynced))
    }

    /// Gives back what must be looked at again: segments that are still written.
    pub(crate) fn keep_unsynced(&self, mut kept: Vec<Unsynced>) {
        lock(&self.unsynced).append(&mut kept);
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// What a panic elsewhere left is still whole: every critical section here is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
