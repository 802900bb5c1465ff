//! The one thread that appends: what has queued up is written, synced once per partition, and only then acknowledged.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::file::compaction;
use crate::file::frame::push_frame;
use crate::file::partition::Partition;
use crate::record::Record;

/// The most records that wait to be appended; producers wait for a place.
const WAITING_MAX: usize = 4096;

/// The most records that are synced at once.
const GROUP_RECORDS_MAX: usize = 4096;

/// The most bytes that are synced at once, but for the last record.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// A record on its way to the disk.
#[derive(Debug)]
struct Append {
    partition: Arc<Partition>,
    record: Record,
    answer: oneshot::Sender<Result<i64, Error>>,
}

/// Owns the thread; dropped, it writes what it was given and joins it.
#[derive(Debug)]
pub(crate) struct Writer {
    appends: Option<mpsc::Sender<Append>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(crate) fn start(segment_bytes_max: u64) -> anyhow::Result<Self> {
        let (appends, mut waiting) = mpsc::channel::<Append>(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("bus-log".to_owned())
            .spawn(move || {
                while let Some(first) = waiting.blocking_recv() {
                    let mut bytes = first.record.bytes();
                    let mut group = vec![first];
                    while group.len() < GROUP_RECORDS_MAX
                        && bytes < GROUP_BYTES_MAX
                        && let Ok(append) = waiting.try_recv()
                    {
                        bytes += append.record.bytes();
                        group.push(append);
                    }
                    append_group(group, segment_bytes_max, Timestamp::now());
                }
            })
            .context("the log's thread can't be started")?;
        Ok(Self { appends: Some(appends), thread: Mutex::new(Some(thread)) })
    }

    /// The record's offset once it is durable.
    pub(crate) async fn append(
        &self,
        partition: Arc<Partition>,
        record: Record,
    ) -> Result<i64, Error> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Error::Unavailable("the log's thread has stopped".to_owned());
        let appends = self.appends.as_ref().ok_or_else(stopped)?;
        appends.send(Append { partition, record, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.appends.take());
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

fn append_group(group: Vec<Append>, segment_bytes_max: u64, now: Timestamp) {
    let mut by_partition: HashMap<*const Partition, Vec<Append>> = HashMap::new();
    for append in group {
        by_partition.entry(Arc::as_ptr(&append.partition)).or_default().push(append);
    }
    for appends in by_partition.into_values() {
        let partition =
            Arc::clone(&appends.first().expect("a group is made with its first").partition);
        match append_to(&partition, &appends, now) {
            Ok(first) => {
                for (append, offset) in appends.into_iter().zip(first..) {
                    // A producer that went away does not ask.
                    drop(append.answer.send(Ok(offset)));
                }
            }
            Err(error) => {
                tracing::error!(folder = %partition.folder.display(), %error, "log can't be written");
                for append in appends {
                    drop(append.answer.send(Err(Error::Unavailable(error.to_string()))));
                }
            }
        }
        if let Err(error) = keep_house(&partition, segment_bytes_max, now) {
            tracing::error!(folder = %partition.folder.display(), %error, "log can't be tidied");
        }
    }
}

/// Writes and syncs the records; the offset of the first. On failure nothing of them is in the log.
fn append_to(partition: &Partition, appends: &[Append], now: Timestamp) -> io::Result<i64> {
    let (segment, end, last_micros) = {
        let state = partition.state();
        let segment = state.segments.last().expect("there is always one").clone();
        (segment, state.end, state.append_micros)
    };
    // A clock that was set back does not make the log's times go back.
    let append_time = Timestamp::from_microsecond(last_micros).map_or(now, |last| last.max(now));
    let mut frames = Vec::new();
    let mut next = end;
    for append in appends {
        push_frame(next, append_time, &append.record, &mut frames);
        next += 1;
    }
    let written =
        segment.file.write_all_at(&frames, segment.bytes).and_then(|()| segment.file.sync_data());
    if let Err(error) = written {
        // What was written lies behind the end that everyone knows of. The next group overwrites it, and if the process
        // ends before that, whole frames of it may come back: a record that was not acknowledged may be in the log.
        segment.file.set_len(segment.bytes)?;
        return Err(error);
    }
    partition.appended(segment.bytes + frames.len() as u64, next, append_time);
    Ok(end)
}

/// Begins a new segment when the last is long enough, and then forgets what may be forgotten.
fn keep_house(partition: &Partition, segment_bytes_max: u64, now: Timestamp) -> anyhow::Result<()> {
    let long =
        partition.state().segments.last().is_some_and(|last| last.bytes >= segment_bytes_max);
    if !long {
        return Ok(());
    }
    partition.roll()?;
    partition.forget(now)?;
    compaction::compact_if_worth_it(partition)
}
