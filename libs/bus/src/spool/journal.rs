//! The spool's one writer: numbers clicks, frames them, and keeps every segment whole.
//!
//! A number belongs to a click only once the click is written, so a click that is lost leaves no hole.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use uuid::Uuid;

use crate::spool::AppendError;
use crate::spool::disk::Disk;
use crate::spool::disk::SegmentFile;
use crate::spool::frame::Frame;
use crate::spool::frame::SEGMENT_HEAD_BYTES;
use crate::spool::frame::frame_bytes;
use crate::spool::frame::push_frame;
use crate::spool::frame::segment_head;
use crate::spool::ledger::Ledger;
use crate::spool::ledger::Segment;

/// How often a write is tried: once, and once more in a new segment.
const WRITE_ATTEMPTS_MAX: usize = 2;

/// How often losses are logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// The frame buffer is given back to the allocator above this.
const BUFFER_BYTES_KEPT_MAX: usize = 1 << 20;

/// Clicks that go into one write.
#[derive(Debug, Default)]
pub(crate) struct Clicks {
    /// Partition and where the payload ends.
    ends: Vec<(u32, usize)>,
    payloads: Vec<u8>,
}

impl Clicks {
    pub(crate) fn push(&mut self, partition: u32, payload: &[u8]) {
        self.payloads.extend_from_slice(payload);
        self.ends.push((partition, self.payloads.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ends.clear();
        self.payloads.clear();
        self.payloads.shrink_to(BUFFER_BYTES_KEPT_MAX);
    }

    fn get(&self, index: usize) -> (u32, &[u8]) {
        let begin = if index == 0 { 0 } else { self.ends[index - 1].1 };
        let (partition, end) = self.ends[index];
        (partition, &self.payloads[begin..end])
    }
}

/// How many of some clicks were written, and why the rest was not.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) clicks: usize,
    pub(crate) error: Option<AppendError>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    folder: PathBuf,
    bytes_max: u64,
    segment_bytes_max: u64,
    incarnation: Uuid,
    opened: Timestamp,
    next_sequence: u64,
    /// The last number given, by partition.
    numbers: Vec<u64>,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Where each frame in the buffer ends.
    frame_ends: Vec<usize>,
    /// When a loss was last logged, and how many clicks since.
    complained: Option<Instant>,
    lost_unsaid: u64,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn SegmentFile>,
}

impl Journal {
    pub(crate) fn new(
        options: &crate::spool::SpoolOptions,
        disk: Arc<dyn Disk>,
        ledger: Arc<Ledger>,
        next_sequence: u64,
        now: Timestamp,
    ) -> Self {
        Self {
            disk,
            ledger,
            folder: options.folder.clone(),
            bytes_max: options.bytes_max,
            segment_bytes_max: options.segment_bytes_max,
            incarnation: new_incarnation(now),
            opened: now,
            next_sequence,
            numbers: vec![0; options.partitions as usize],
            active: None,
            buffer: Vec::new(),
            frame_ends: Vec::new(),
            complained: None,
            lost_unsaid: 0,
        }
    }

    /// Writes the clicks, in order; those that can't be written are a suffix, and counted as lost.
    pub(crate) fn write(&mut self, clicks: &Clicks) -> Written {
        let mut written = 0;
        let mut error = None;
        for _ in 0..WRITE_ATTEMPTS_MAX {
            match self.try_write(clicks, &mut written) {
                Ok(()) => {
                    error = None;
                    break;
                }
                Err(AppendError::Full) => {
                    error = Some(AppendError::Full);
                    break;
                }
                Err(
                    failed @ (AppendError::Failed(_)
                    | AppendError::Behind
                    | AppendError::Refused(_)),
                ) => {
                    error = Some(failed);
                }
            }
        }
        if let Some(error) = &error {
            let lost = (clicks.len() - written) as u64;
            self.ledger.metrics.lost.inc_by(lost);
            self.complain(lost, error);
        }
        Written { clicks: written, error }
    }

    /// Begins a new incarnation if a UTC day has begun since the last.
    pub(crate) fn roll_day(&mut self, now: Timestamp) {
        if utc_day(now) > utc_day(self.opened) {
            self.begin_incarnation(now);
        }
    }

    /// Closes the segment that is being written if it is this long, and tells which it was.
    pub(crate) fn close_if_at(&mut self, sequence: u64, bytes: u64) -> bool {
        let at = self.active.as_ref().is_some_and(|active| {
            active.segment.sequence == sequence && active.segment.written() == bytes
        });
        if at {
            self.close();
        }
        at
    }

    /// Seals the segment that is being written; the next write begins another.
    pub(crate) fn close(&mut self) {
        if let Some(active) = self.active.take() {
            active.segment.seal();
            // The shipper may wait for the end of this one.
            self.ledger.written.notify_one();
        }
    }

    /// Logs losses, not one by one: a full disk refuses every click there is.
    fn complain(&mut self, lost: u64, error: &AppendError) {
        self.lost_unsaid += lost;
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            tracing::error!(lost = self.lost_unsaid, %error, "clicks could not be spooled");
            self.complained = Some(Instant::now());
            self.lost_unsaid = 0;
        }
    }

    fn begin_incarnation(&mut self, now: Timestamp) {
        self.close();
        self.incarnation = new_incarnation(now);
        self.opened = now;
        self.numbers.fill(0);
    }

    /// One write of all that is not written yet. On failure the segment holds whole frames only and is closed.
    fn try_write(&mut self, clicks: &Clicks, written: &mut usize) -> Result<(), AppendError> {
        let active = self.writable()?;
        let (segment, file) = (Arc::clone(&active.segment), Arc::clone(&active.file));
        let rest = self.encode(clicks, *written..clicks.len());
        let full = rest.end < clicks.len();
        let done = file.append(&self.buffer);

        let bytes_done = *done.as_ref().unwrap_or(&0);
        if bytes_done == self.buffer.len() {
            *written = rest.end;
            self.ledger.appended(&segment, bytes_done as u64, rest.len());
            return if full { Err(AppendError::Full) } else { Ok(()) };
        }

        let whole = self.frame_ends.partition_point(|&end| end <= bytes_done);
        let whole_bytes = if whole == 0 { 0 } else { self.frame_ends[whole - 1] };
        for index in (*written + whole..rest.end).rev() {
            let (partition, _) = clicks.get(index);
            self.numbers[partition as usize] -= 1;
        }
        *written += whole;
        if whole > 0 {
            self.ledger.appended(&segment, whole_bytes as u64, whole);
        }
        if let Err(error) = file.cut(segment.written()) {
            // Frames may lie behind the last one that we know of, under numbers that will be given again.
            tracing::error!(path = %segment.path.display(), %error, "segment can't be cut, beginning a new incarnation");
            self.begin_incarnation(self.opened);
        } else {
            self.close();
        }
        let why = match done {
            Ok(short) => format!("the disk took {short} of {} bytes", self.buffer.len()),
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %segment.path.display(), why, "segment closed after a failed write");
        Err(AppendError::Failed(why))
    }

    /// Numbers and frames the clicks of this range, as many as the spool's bound allows.
    fn encode(&mut self, clicks: &Clicks, range: Range<usize>) -> Range<usize> {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT_MAX);
        self.frame_ends.clear();
        let room = self.bytes_max.saturating_sub(self.ledger.bytes());
        for index in range.clone() {
            let (partition, payload) = clicks.get(index);
            if (self.buffer.len() + frame_bytes(payload.len())) as u64 > room {
                return range.start..index;
            }
            let number = &mut self.numbers[partition as usize];
            *number += 1;
            push_frame(&Frame { partition, number: *number, payload }, &mut self.buffer);
            self.frame_ends.push(self.buffer.len());
        }
        range
    }

    /// The segment to append to, a new one if there is none, it is long enough, or the disk could not sync it.
    fn writable(&mut self) -> Result<&Active, AppendError> {
        let long = |active: &Active| active.segment.written() >= self.segment_bytes_max;
        let sync_failed = self.ledger.roll_wanted.load(Ordering::Relaxed)
            && self.ledger.roll_wanted.swap(false, Ordering::Relaxed);
        if sync_failed || self.active.as_ref().is_some_and(long) {
            self.close();
        }
        if self.active.is_none() {
            self.active = Some(self.open_segment()?);
        }
        Ok(self.active.as_ref().expect("it was just opened"))
    }

    fn open_segment(&mut self) -> Result<Active, AppendError> {
        if self.ledger.bytes() + SEGMENT_HEAD_BYTES as u64 >= self.bytes_max {
            return Err(AppendError::Full);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let path = self.folder.join(segment_name(sequence));
        let failed = |error: std::io::Error| AppendError::Failed(error.to_string());
        let file = self.disk.create(&path).map_err(failed)?;
        let head = segment_head(self.incarnation, sequence);
        let done = file.append(&head);
        if !matches!(done, Ok(SEGMENT_HEAD_BYTES)) {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "segment without a head can't be removed");
            }
            return Err(match done {
                Ok(short) => {
                    AppendError::Failed(format!("the disk took {short} bytes of a segment's head"))
                }
                Err(error) => failed(error),
            });
        }
        let segment =
            Arc::new(Segment::new(sequence, self.incarnation, path, SEGMENT_HEAD_BYTES as u64));
        self.ledger.opened(&segment, &file);
        Ok(Active { segment, file })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// The name of a segment's file; names sort as sequences do.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{sequence:020}.spool")
}

fn new_incarnation(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.as_second()).expect("no clock that we trust is before 1970");
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).expect("positive since 1970");
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds))
}

fn utc_day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(24 * 60 * 60)
}
