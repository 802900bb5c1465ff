//! What an earlier process left in the folder: found at open, shipped before anything else.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use uuid::Uuid;

use crate::spool::frame::Found;
use crate::spool::frame::SEGMENT_HEAD_BYTES;
use crate::spool::frame::find_frame;
use crate::spool::frame::find_next_frame;
use crate::spool::frame::read_segment_head;
use crate::spool::journal::segment_name;
use crate::spool::ledger::Segment;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    /// To be shipped, in order.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// On disk, damaged segments included.
    pub(crate) bytes: u64,
    pub(crate) next_sequence: u64,
    /// Clicks in segments whose incarnation can't be read: they can't be shipped.
    pub(crate) lost: u64,
}

impl Leftover {
    /// Looks through the folder. A segment without a whole header is removed if it never held a click, and else put
    /// aside as `.damaged`, its clicks counted as lost.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Self> {
        let mut left = Self::default();
        let mut sequences = Vec::new();
        for entry in std::fs::read_dir(folder).context("the spool's folder can't be listed")? {
            let entry = entry.context("the spool's folder can't be listed")?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some((stem, extension)) = name.split_once('.') else { continue };
            let Ok(sequence) = stem.parse::<u64>() else { continue };
            if extension == "damaged" {
                left.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
            left.next_sequence = left.next_sequence.max(sequence + 1);
            if name == segment_name(sequence) {
                sequences.push(sequence);
            }
        }
        sequences.sort_unstable();
        for sequence in sequences {
            let path = folder.join(segment_name(sequence));
            left.add(sequence, path.clone())
                .with_context(|| format!("spool segment {}", path.display()))?;
        }
        Ok(left)
    }

    fn add(&mut self, sequence: u64, path: PathBuf) -> io::Result<()> {
        let bytes = path.metadata()?.len();
        match incarnation(&path, sequence)? {
            Some(incarnation) => {
                let segment = Segment::leftover(sequence, incarnation, path, bytes);
                self.bytes += bytes;
                self.segments.push_back(Arc::new(segment));
            }
            None if bytes <= SEGMENT_HEAD_BYTES as u64 => std::fs::remove_file(&path)?,
            None => {
                let lost = count_frames(&std::fs::read(&path)?);
                let aside = path.with_extension("damaged");
                std::fs::rename(&path, &aside)?;
                tracing::error!(path = %aside.display(), lost, "spool segment has no readable header");
                self.bytes += bytes;
                self.lost += lost;
            }
        }
        Ok(())
    }
}

fn incarnation(path: &Path, sequence: u64) -> io::Result<Option<Uuid>> {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    match File::open(path)?.read_exact(&mut head) {
        Ok(()) => Ok(read_segment_head(&head, sequence)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn count_frames(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(at) = find_next_frame(bytes) {
        let Found::Frame(frame) = find_frame(&bytes[at..]) else { break };
        count += 1;
        bytes = &bytes[at + frame.bytes()..];
    }
    count
}
