//! One partition on disk: its segments, what of it is durable, and what it may forget.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::error::ReadError;
use crate::file::frame::SEGMENT_HEAD_BYTES;
use crate::file::frame::read_record;
use crate::file::segment::Chunks;
use crate::file::segment::Segment;
use crate::record::Stored;
use crate::topics::Retention;

/// The most bytes that one read returns, but for the last record.
const READ_BYTES_MAX: usize = 4 << 20;

/// A partition. One writer appends; any number of readers read what is durable.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) folder: PathBuf,
    state: Mutex<State>,
    /// The next offset, for readers that wait for it to grow.
    end: watch::Sender<i64>,
}

/// What is durable.
#[derive(Debug)]
pub(crate) struct State {
    /// By base; the last one is appended to.
    pub(crate) segments: Vec<Segment>,
    pub(crate) end: i64,
    /// Of the last record, in microseconds since 1970.
    pub(crate) append_micros: i64,
    pub(crate) retention: Retention,
    /// What the closed segments of a compacted topic held after the last compaction.
    pub(crate) compacted_bytes: u64,
}

/// What a read found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) records: Vec<Stored>,
    /// Where to read next.
    pub(crate) position: i64,
    pub(crate) cursor: Option<Cursor>,
}

/// Where a reader has got to, so that it need not look for its offset again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    base: i64,
    rewrites: u32,
    bytes: u64,
}

impl Partition {
    /// Opens or makes the partition. A torn tail is cut off.
    ///
    /// # Errors
    /// It can't be read, or is damaged in the middle.
    pub(crate) fn open(folder: PathBuf, retention: Retention) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut segments = Vec::new();
        for base in bases(&folder)? {
            let path = Segment::path(&folder, base);
            let bytes = path.metadata()?.len();
            if bytes < SEGMENT_HEAD_BYTES as u64 {
                // Its maker was killed before it could be used.
                std::fs::remove_file(&path)?;
                continue;
            }
            segments.push(Segment::open(path, base)?);
        }
        if segments.is_empty() {
            segments.push(Segment::create(&folder, 0)?);
        }
        let last = segments.last_mut().expect("one was just made");
        let scanned = last.recover()?;
        let (end, append_micros) =
            scanned.last.map_or((last.base, 0), |(offset, micros)| (offset + 1, micros));
        let state = State { segments, end, append_micros, retention, compacted_bytes: 0 };
        Ok(Self { folder, state: Mutex::new(state), end: watch::Sender::new(end) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest offset and the next.
    pub(crate) fn offsets(&self) -> (i64, i64) {
        let state = self.state();
        (state.low(), state.end)
    }

    pub(crate) fn watch_end(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Publishes what was appended and synced.
    pub(crate) fn appended(&self, bytes: u64, end: i64, append_time: Timestamp) {
        let mut state = self.state();
        state.segments.last_mut().expect("there is always one").bytes = bytes;
        state.end = end;
        state.append_micros = append_time.as_microsecond();
        drop(state);
        self.end.send_replace(end);
    }

    /// Closes the last segment and begins another. Nothing to do if it is empty.
    pub(crate) fn roll(&self) -> std::io::Result<()> {
        let (base, end) = {
            let state = self.state();
            (state.segments.last().expect("there is always one").base, state.end)
        };
        if base == end {
            return Ok(());
        }
        let segment = Segment::create(&self.folder, end)?;
        self.state().segments.push(segment);
        Ok(())
    }

    /// Removes closed segments whose last record is older than the retention.
    pub(crate) fn forget(&self, now: Timestamp) -> anyhow::Result<()> {
        let Retention::Delete(age) = self.state().retention else {
            return Ok(());
        };
        let Ok(oldest) = now.checked_sub(jiff::SignedDuration::try_from(age)?) else {
            return Ok(());
        };
        loop {
            let next = {
                let state = self.state();
                let [_, next, ..] = state.segments.as_slice() else { return Ok(()) };
                // Nothing in a segment is younger than the first record of the next.
                (next.clone(), state.append_micros)
            };
            let younger = next.0.first_append_micros()?.unwrap_or(next.1);
            if younger >= oldest.as_microsecond() {
                return Ok(());
            }
            let forgotten = self.state().segments.remove(0);
            std::fs::remove_file(&forgotten.path)?;
            File::open(&self.folder)?.sync_all()?;
        }
    }

    /// Reads records from `position` on. No records means that there are none yet.
    pub(crate) fn read(
        &self,
        position: i64,
        cursor: Option<Cursor>,
        records_max: usize,
    ) -> Result<Found, ReadError> {
        let mut records = Vec::new();
        let (mut position, mut cursor, mut bytes) = (position, cursor, 0);
        while records.len() < records_max && bytes < READ_BYTES_MAX {
            let Some((segment, closed)) = self.state().segment_of(position, cursor.as_ref())?
            else {
                break;
            };
            // Compaction leaves gaps between segments too.
            position = position.max(segment.base);
            let same =
                cursor.filter(|at| at.base == segment.base && at.rewrites == segment.rewrites);
            let begin = same.map_or(SEGMENT_HEAD_BYTES as u64, |at| at.bytes);
            let mut chunks = Chunks::new(&segment, begin);
            while records.len() < records_max && bytes < READ_BYTES_MAX {
                let Some((frame, frame_bytes)) = chunks.next_frame().map_err(damaged)? else {
                    break;
                };
                if frame.offset < position {
                    continue;
                }
                let stored = read_record(frame, &frame_bytes).ok_or_else(|| {
                    ReadError::Damaged(format!("offset {} has no record", frame.offset))
                })?;
                position = frame.offset + 1;
                bytes += frame.bytes;
                records.push(stored);
            }
            let at = chunks.position;
            cursor = Some(Cursor { base: segment.base, rewrites: segment.rewrites, bytes: at });
            if at < segment.bytes && records.len() < records_max && bytes < READ_BYTES_MAX {
                let why = format!("{} is damaged at byte {at}", segment.path.display());
                // What was read before it is good.
                return match records.is_empty() {
                    true => Err(ReadError::Damaged(why)),
                    false => Ok(Found { records, position, cursor }),
                };
            }
            if at >= segment.bytes && !closed {
                break;
            }
        }
        Ok(Found { records, position, cursor })
    }
}

impl State {
    pub(crate) fn low(&self) -> i64 {
        match self.retention {
            Retention::Delete(_) => self.segments.first().map_or(self.end, |first| first.base),
            // Compaction leaves gaps, and readers in them are not lost.
            Retention::Compact => 0,
        }
    }

    /// The segment to read at `position`, and whether another follows it. None at the end.
    fn segment_of(
        &self,
        position: i64,
        cursor: Option<&Cursor>,
    ) -> Result<Option<(Segment, bool)>, ReadError> {
        let (low, high) = (self.low(), self.end);
        if position < low || position > high {
            return Err(ReadError::OutOfRange { low, high });
        }
        if position == high {
            return Ok(None);
        }
        let index =
            self.segments.partition_point(|segment| segment.base <= position).saturating_sub(1);
        let segment = &self.segments[index];
        let read_to_end = cursor.is_some_and(|at| {
            at.base == segment.base && at.rewrites == segment.rewrites && at.bytes >= segment.bytes
        });
        let Some(next) = self.segments.get(index + 1) else {
            return Ok((!read_to_end).then(|| (segment.clone(), false)));
        };
        if !read_to_end {
            return Ok(Some((segment.clone(), true)));
        }
        if matches!(self.retention, Retention::Delete(_)) {
            let path = segment.path.display();
            let why =
                format!("{path} ends before offset {position}, which is not in the next segment");
            return Err(ReadError::Damaged(why));
        }
        Ok(Some((next.clone(), self.segments.len() > index + 2)))
    }
}

fn bases(folder: &Path) -> anyhow::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            // A compaction was interrupted: what it was to replace is still there.
            std::fs::remove_file(&path)?;
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let base = stem.parse().with_context(|| format!("{} is no segment", path.display()))?;
        bases.push(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

fn damaged(error: anyhow::Error) -> ReadError {
    ReadError::Damaged(format!("{error:#}"))
}
