//! One file of a partition: opened, checked, scanned.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;

use crate::file::frame::FRAME_BYTES_MAX;
use crate::file::frame::Found;
use crate::file::frame::Frame;
use crate::file::frame::SEGMENT_HEAD_BYTES;
use crate::file::frame::find_frame;
use crate::file::frame::has_frame;
use crate::file::frame::segment_head;

/// How much of a segment is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A segment as readers see it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// No record in it has a lower offset.
    pub(crate) base: i64,
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// Durable whole frames end here.
    pub(crate) bytes: u64,
    /// Counts rewrites: a place in an earlier one means nothing.
    pub(crate) rewrites: u32,
}

/// What a scan of a whole segment found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scanned {
    /// The last record's offset and append time, if there is any.
    pub(crate) last: Option<(i64, i64)>,
    /// Where whole frames end.
    pub(crate) bytes: u64,
}

impl Segment {
    /// The path of a partition's segment; names sort as bases do.
    pub(crate) fn path(folder: &Path, base: i64) -> PathBuf {
        folder.join(format!("{base:020}.log"))
    }

    /// A new segment with nothing but its header, durable under its name.
    pub(crate) fn create(folder: &Path, base: i64) -> std::io::Result<Self> {
        let path = Self::path(folder, base);
        // What is there was never used: a segment is announced only once it was made.
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
        let mut file = options.open(&path)?;
        file.write_all(&segment_head(base))?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        let bytes = SEGMENT_HEAD_BYTES as u64;
        Ok(Self { base, file: Arc::new(file), path, bytes, rewrites: 0 })
    }

    /// A segment that is there. Its frames are not looked at.
    pub(crate) fn open(path: PathBuf, base: i64) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let mut head = [0; SEGMENT_HEAD_BYTES];
        let whole = file.read_exact_at(&mut head, 0).is_ok() && head == segment_head(base);
        anyhow::ensure!(whole, "{} has no readable header", path.display());
        Ok(Self { base, file: Arc::new(file), path, bytes, rewrites: 0 })
    }

    /// Looks at every frame. A torn tail, which was never acknowledged, is cut off.
    ///
    /// # Errors
    /// Damage with whole frames behind it.
    pub(crate) fn recover(&mut self) -> anyhow::Result<Scanned> {
        let mut scanned = Scanned { last: None, bytes: SEGMENT_HEAD_BYTES as u64 };
        let mut chunks = Chunks::new(self, SEGMENT_HEAD_BYTES as u64);
        while let Some((frame, _)) = chunks.next_frame()? {
            scanned.last = Some((frame.offset, frame.append_micros));
            scanned.bytes = chunks.position;
        }
        if scanned.bytes < self.bytes {
            let path = self.path.display();
            let mut rest = vec![0; usize::try_from(self.bytes - scanned.bytes)?];
            self.file.read_exact_at(&mut rest, scanned.bytes)?;
            anyhow::ensure!(
                !has_frame(&rest),
                "{path} is damaged at byte {}, with whole records behind it: restore it, or cut it there and lose them",
                scanned.bytes
            );
            tracing::warn!(%path, at = scanned.bytes, bytes = rest.len(), "log segment had a torn tail");
            self.file.set_len(scanned.bytes)?;
            self.file.sync_all()?;
            self.bytes = scanned.bytes;
        }
        Ok(scanned)
    }

    /// The append time of the first record, in microseconds since 1970.
    pub(crate) fn first_append_micros(&self) -> anyhow::Result<Option<i64>> {
        let mut chunks = Chunks::new(self, SEGMENT_HEAD_BYTES as u64);
        Ok(chunks.next_frame()?.map(|(frame, _)| frame.append_micros))
    }
}

/// Walks over a segment's frames.
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    segment: &'a Segment,
    /// Where the next frame begins.
    pub(crate) position: u64,
    chunk: Bytes,
}

impl<'a> Chunks<'a> {
    /// `position` is where a frame begins.
    pub(crate) fn new(segment: &'a Segment, position: u64) -> Self {
        Self { segment, position, chunk: Bytes::new() }
    }

    /// The next whole frame and its bytes; none at the end, or where no whole frame follows: then `position` tells where.
    pub(crate) fn next_frame(&mut self) -> anyhow::Result<Option<(Frame, Bytes)>> {
        let mut found = find_frame(&self.chunk);
        for want in [CHUNK_BYTES, FRAME_BYTES_MAX] {
            if !matches!(found, Found::Incomplete) {
                break;
            }
            self.fill(want)?;
            found = find_frame(&self.chunk);
        }
        let Found::Frame(frame) = found else {
            return Ok(None);
        };
        self.position += frame.bytes as u64;
        Ok(Some((frame, self.chunk.split_to(frame.bytes))))
    }

    fn fill(&mut self, bytes: usize) -> anyhow::Result<()> {
        let left = usize::try_from(self.segment.bytes.saturating_sub(self.position))?;
        let mut chunk = vec![0; left.min(bytes)];
        self.segment.file.read_exact_at(&mut chunk, self.position).with_context(|| {
            format!("{} can't be read at {}", self.segment.path.display(), self.position)
        })?;
        self.chunk = chunk.into();
        Ok(())
    }
}
