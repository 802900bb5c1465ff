//! Reads the spool's segments in order, behind the writer, and hands every whole frame on.
//!
//! The bytes were just written, so they come from the page cache. Damage costs the frames it hits and no others.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::spool::frame::FRAME_BYTES_MAX;
use crate::spool::frame::Found;
use crate::spool::frame::SEGMENT_HEAD_BYTES;
use crate::spool::frame::find_frame;
use crate::spool::frame::find_next_frame;
use crate::spool::lanes::Lanes;
use crate::spool::ledger::Ledger;
use crate::spool::ledger::Segment;

/// How much is read at once. A frame always fits, so a chunk without one is damaged.
const CHUNK_BYTES: usize = 256 * 1024;
const _: () = assert!(CHUNK_BYTES > 2 * FRAME_BYTES_MAX);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Advanced,
    /// Nothing is written that was not read.
    CaughtUp,
}

/// A place in the spool.
#[derive(Debug)]
pub(crate) struct Scanner {
    ledger: Arc<Ledger>,
    current: Option<Open>,
    /// The last segment that was read to its end.
    ended: Option<u64>,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    file: File,
    position: u64,
}

impl Scanner {
    /// At the spool's beginning.
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, current: None, ended: None, chunk: vec![0; CHUNK_BYTES] }
    }

    /// The segment that is being read, and how far.
    pub(crate) fn place(&self) -> Option<(u64, u64)> {
        self.current.as_ref().map(|open| (open.segment.sequence, open.position))
    }

    /// Reads a chunk into the lanes.
    pub(crate) fn step(&mut self, lanes: &mut Lanes) -> io::Result<Step> {
        let Some(open) = &mut self.current else {
            return self.open_next(lanes);
        };
        let final_bytes = open.segment.final_bytes();
        let written = final_bytes.unwrap_or_else(|| open.segment.written());
        if open.position >= written {
            if final_bytes.is_none() {
                return Ok(Step::CaughtUp);
            }
            lanes.end(open.segment.sequence);
            self.ended = Some(open.segment.sequence);
            self.current = None;
            return Ok(Step::Advanced);
        }
        let left = usize::try_from(written - open.position).unwrap_or(usize::MAX);
        let chunk = &mut self.chunk[..left.min(CHUNK_BYTES)];
        match open.file.read_exact_at(chunk, open.position) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::error!(path = %open.segment.path.display(), "spool segment was cut by somebody else");
                open.position = written;
                return Ok(Step::Advanced);
            }
            Err(error) => return Err(error),
        }
        let taken = take_frames(chunk, left <= CHUNK_BYTES, &open.segment, open.position, lanes);
        open.position += taken as u64;
        Ok(Step::Advanced)
    }

    fn open_next(&mut self, lanes: &mut Lanes) -> io::Result<Step> {
        let Some(segment) = self.ledger.segment_after(self.ended) else {
            return Ok(Step::CaughtUp);
        };
        match File::open(&segment.path) {
            Ok(file) => {
                lanes.begin(&segment);
                let position = SEGMENT_HEAD_BYTES as u64;
                self.current = Some(Open { segment, file, position });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(path = %segment.path.display(), "spool segment was removed by somebody else");
                self.ended = Some(segment.sequence);
                self.ledger.remove(segment.sequence);
            }
            Err(error) => return Err(error),
        }
        Ok(Step::Advanced)
    }
}

/// Hands on the chunk's frames; how many bytes are done with. `last` means that the segment ends with the chunk.
fn take_frames(chunk: &[u8], last: bool, segment: &Segment, at: u64, lanes: &mut Lanes) -> usize {
    let mut taken = 0;
    while taken < chunk.len() {
        let rest = &chunk[taken..];
        match find_frame(rest) {
            Found::Frame(frame) => {
                lanes.add(segment, &frame);
                taken += frame.bytes();
            }
            // Not a damaged length: the chunk is longer than any frame, so the next one begins with this frame.
            Found::Incomplete if !last && rest.len() < FRAME_BYTES_MAX => break,
            Found::Incomplete | Found::Damaged => {
                taken += skip_damage(rest, last, segment, at + taken as u64);
                if !last {
                    break;
                }
            }
        }
    }
    taken
}

fn skip_damage(rest: &[u8], last: bool, segment: &Segment, at: u64) -> usize {
    let path = segment.path.display();
    if let Some(next) = find_next_frame(&rest[1..]) {
        tracing::error!(%path, at, bytes = next + 1, "spool segment is damaged, frames behind it are whole");
        return next + 1;
    }
    if last {
        // What a killed writer or a power failure leaves. A killed writer had not answered these clicks.
        tracing::warn!(%path, at, bytes = rest.len(), "spool segment has a torn tail");
        return rest.len();
    }
    tracing::error!(%path, at, "spool segment is damaged");
    // A frame may begin in what is left of the chunk and end behind it.
    rest.len().saturating_sub(FRAME_BYTES_MAX).max(1)
}
