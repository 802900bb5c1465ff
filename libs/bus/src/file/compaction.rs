//! Compaction: of the records with one key only the last stays, under its own offset.

use std::collections::HashMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;

use crate::file::frame::SEGMENT_HEAD_BYTES;
use crate::file::frame::read_record;
use crate::file::frame::segment_head;
use crate::file::partition::Partition;
use crate::file::segment::Chunks;
use crate::file::segment::Segment;
use crate::topics::Retention;

/// Rewrites the closed segments of a compacted topic once they have doubled since the last time.
///
/// Readers are not disturbed: a file is replaced whole, and whoever reads the old one reads on in it.
pub(crate) fn compact_if_worth_it(partition: &Partition) -> anyhow::Result<()> {
    let (segments, compacted_bytes) = {
        let state = partition.state();
        if state.retention != Retention::Compact {
            return Ok(());
        }
        (state.segments.clone(), state.compacted_bytes)
    };
    let closed = &segments[..segments.len() - 1];
    let closed_bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
    if closed.is_empty() || closed_bytes < compacted_bytes.saturating_mul(2) {
        return Ok(());
    }
    let last = last_offsets(&segments)?;
    let mut kept = Vec::new();
    for segment in closed {
        kept.extend(rewrite(segment, &last)?);
    }
    File::open(&partition.folder)?.sync_all()?;

    let mut state = partition.state();
    state.compacted_bytes = kept.iter().map(|segment| segment.bytes).sum();
    // Only this thread adds segments, so the ones after the closed ones are as they were.
    state.segments.splice(..closed.len(), kept);
    Ok(())
}

fn last_offsets(segments: &[Segment]) -> anyhow::Result<HashMap<Bytes, i64>> {
    let mut last = HashMap::new();
    for segment in segments {
        for_each_record(segment, |offset, key, _| {
            if let Some(key) = key {
                last.insert(key, offset);
            }
        })?;
    }
    Ok(last)
}

/// The segment with only what must stay; none if that is nothing.
fn rewrite(segment: &Segment, last: &HashMap<Bytes, i64>) -> anyhow::Result<Option<Segment>> {
    let mut kept = segment_head(segment.base).to_vec();
    for_each_record(segment, |offset, key, frame| {
        if key.is_none_or(|key| last.get(&key) == Some(&offset)) {
            kept.extend_from_slice(frame);
        }
    })?;
    if kept.len() == SEGMENT_HEAD_BYTES {
        std::fs::remove_file(&segment.path)?;
        return Ok(None);
    }
    let temporary = segment.path.with_extension("tmp");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(&kept)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &segment.path)?;
    Ok(Some(Segment {
        base: segment.base,
        file: Arc::new(file),
        path: segment.path.clone(),
        bytes: kept.len() as u64,
        rewrites: segment.rewrites + 1,
    }))
}

/// Calls `visit` with each record's offset, key and whole frame.
fn for_each_record(
    segment: &Segment,
    mut visit: impl FnMut(i64, Option<Bytes>, &[u8]),
) -> anyhow::Result<()> {
    let mut chunks = Chunks::new(segment, SEGMENT_HEAD_BYTES as u64);
    while let Some((frame, bytes)) = chunks.next_frame()? {
        let record = read_record(frame, &bytes).with_context(|| {
            format!("{} has no record at {}", segment.path.display(), frame.offset)
        })?;
        visit(frame.offset, record.key, &bytes);
    }
    // Never rewritten without what lies behind the damage.
    let whole = chunks.position == segment.bytes;
    anyhow::ensure!(whole, "{} is damaged at byte {}", segment.path.display(), chunks.position);
    Ok(())
}
