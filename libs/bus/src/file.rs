//! The file adapter: a log in a folder, for one process.
//!
//! `<folder>/<topic>/topic` says what the topic is, `<folder>/<topic>/<partition>/<base offset>.log` holds records. What was
//! acknowledged was synced; what is not whole at the end of a partition was never acknowledged, and is cut off at open.

mod compaction;
mod frame;
mod partition;
mod segment;
#[cfg(test)]
mod tests;
mod topic;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use url::form_urlencoded;

use crate::error::Error;
use crate::error::ReadError;
use crate::file::partition::Cursor;
use crate::file::partition::Partition;
use crate::file::topic::Topic;
use crate::file::writer::Writer;
use crate::record::Record;
use crate::record::Start;
use crate::record::Stored;
use crate::topics::Retention;
use crate::topics::TopicSpec;

/// The size at which a segment is closed, if the URI does not say.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone, Debug)]
pub(crate) struct FileLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Dropped first: it writes what it was given while the folder is still locked.
    writer: Writer,
    folder: PathBuf,
    topics: Mutex<HashMap<String, Topic>>,
    _lock: File,
}

impl FileLog {
    /// `uri` as [`crate::Bus::open`] describes it, scheme included.
    pub(crate) fn open(uri: &str) -> anyhow::Result<Self> {
        let rest = uri.strip_prefix("file:").context("a log's URI begins with file:")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        anyhow::ensure!(!path.is_empty(), "a log's URI names a folder: file:/path");
        let mut segment_bytes_max = SEGMENT_BYTES_MAX;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            anyhow::ensure!(name == "segment_bytes", "log parameter {name} is unknown");
            let bytes = value.parse().ok().filter(|bytes| (1024..=1 << 30).contains(bytes));
            segment_bytes_max = bytes.context("segment_bytes is 1024 to 1073741824")?;
        }
        Self::open_folder(Path::new(path), segment_bytes_max, Timestamp::now())
    }

    fn open_folder(folder: &Path, segment_bytes_max: u64, now: Timestamp) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("log folder {} can't be made", folder.display()))?;
        let lock = crate::folder::lock(folder)?;
        let mut topics = HashMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(topic) = Topic::open(&path).with_context(|| path.display().to_string())? {
                for partition in topic.partitions() {
                    partition.forget(now)?;
                    compaction::compact_if_worth_it(partition)?;
                }
                topics.insert(topic.name().to_owned(), topic);
            }
        }
        let writer = Writer::start(segment_bytes_max)?;
        let inner =
            Inner { writer, folder: folder.to_owned(), topics: Mutex::new(topics), _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let (log, spec) = (self.clone(), *spec);
        let ensured = tokio::task::spawn_blocking(move || {
            let mut topics = log.topics();
            match topics.get_mut(spec.name) {
                Some(topic) => topic.adjust(&spec),
                None => {
                    let topic = Topic::create(&log.inner.folder, &spec)?;
                    topics.insert(spec.name.to_owned(), topic);
                    Ok(())
                }
            }
        });
        match ensured.await {
            Ok(ensured) => ensured.map_err(|error| Error::Unavailable(format!("{error:#}"))),
            Err(_) => Err(Error::Unavailable("the runtime is stopping".to_owned())),
        }
    }

    pub(crate) fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let topics = self.topics();
        let topic = topics.get(topic).ok_or_else(|| no_topic(topic))?;
        Ok(u32::try_from(topic.partitions().len()).expect("bounded by PARTITIONS_MAX"))
    }

    pub(crate) async fn produce(
        &self,
        topic: &str,
        partition: u32,
        record: Record,
    ) -> Result<i64, Error> {
        let partition = self.partition(topic, partition)?;
        if record.key.is_none() && partition.state().retention == Retention::Compact {
            return Err(Error::Refused(format!("{topic} is compacted: a record needs a key")));
        }
        self.inner.writer.append(partition, record).await
    }

    pub(crate) fn offsets(&self, topic: &str, partition: u32) -> Result<(i64, i64), Error> {
        Ok(self.partition(topic, partition)?.offsets())
    }

    pub(crate) fn reader(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<Reader, Error> {
        let partition = self.partition(topic, partition)?;
        let (low, end) = partition.offsets();
        let position = match start {
            Start::Offset(offset) => offset,
            Start::Beginning => low,
            Start::End => end,
        };
        Ok(Reader {
            log: self.clone(),
            end: partition.watch_end(),
            partition,
            position,
            cursor: None,
        })
    }

    fn partition(&self, topic: &str, partition: u32) -> Result<Arc<Partition>, Error> {
        let topics = self.topics();
        let found = topics.get(topic).ok_or_else(|| no_topic(topic))?;
        let found = found.partitions().get(partition as usize).map(Arc::clone);
        found.ok_or_else(|| Error::Refused(format!("{topic} has no partition {partition}")))
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Topic>> {
        self.inner.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one partition.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The folder stays locked while it is read.
    #[expect(dead_code, reason = "kept for its drop")]
    log: FileLog,
    partition: Arc<Partition>,
    end: watch::Receiver<i64>,
    position: i64,
    cursor: Option<Cursor>,
}

impl Reader {
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    pub(crate) fn offsets(&self) -> (i64, i64) {
        self.partition.offsets()
    }

    pub(crate) async fn next(
        &mut self,
        records_max: usize,
        max_wait: Duration,
    ) -> Result<Vec<Stored>, ReadError> {
        let deadline = Instant::now() + max_wait;
        loop {
            // Marked as seen before it is read: what comes after wakes the wait below.
            let end = *self.end.borrow_and_update();
            let records =
                if end == self.position { Vec::new() } else { self.read(records_max).await? };
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(records);
            }
            tokio::select! {
                changed = self.end.changed() => {
                    changed.map_err(|_| ReadError::Unavailable("the log was closed".to_owned()))?;
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Reads from the disk, which may be slow. Cancelled, it has moved nothing.
    async fn read(&mut self, records_max: usize) -> Result<Vec<Stored>, ReadError> {
        let (position, cursor) = (self.position, self.cursor);
        let partition = Arc::clone(&self.partition);
        let reading =
            tokio::task::spawn_blocking(move || partition.read(position, cursor, records_max));
        let Ok(found) = reading.await else {
            return Err(ReadError::Unavailable("the runtime is stopping".to_owned()));
        };
        let found = found?;
        (self.position, self.cursor) = (found.position, found.cursor);
        Ok(found.records)
    }
}

fn no_topic(topic: &str) -> Error {
    Error::Refused(format!("there is no topic {topic}"))
}
