//! Events over a partitioned log: Kafka, or a durable log on local disk, chosen by URI; and the spool that feeds it.
//!
//! A topic has partitions, a partition has records at growing offsets, each with the time at which the log took it. A
//! record that was acknowledged stays (until retention takes it), in the order in which it was acknowledged. Both adapters
//! pass one conformance suite, and nothing outside this crate knows which one is in use.

pub mod clicks;
mod error;
mod file;
mod folder;
mod kafka;
mod metrics;
mod record;
pub mod spool;
pub mod topics;

use std::time::Duration;
use std::time::Instant;

use prometheus_client::registry::Registry;

use crate::metrics::Metrics;
use crate::metrics::Reading;

pub use error::Error;
pub use error::ReadError;
pub use record::HEADERS_MAX;
pub use record::RECORD_BYTES_MAX;
pub use record::Record;
pub use record::Start;
pub use record::Stored;
pub use topics::Retention;
pub use topics::TopicSpec;

/// A partitioned log. Cheap to clone; the last clone dropped closes it.
#[derive(Clone, Debug)]
pub struct Bus {
    adapter: Adapter,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
enum Adapter {
    Kafka(kafka::Kafka),
    File(file::FileLog),
}

impl Bus {
    /// Opens the log that the URI names:
    ///
    /// - `kafka://host:port,host:port`: Kafka; nothing is contacted yet, and brokers that are away are no error. With
    ///   `?replication=N` topics are made with that many replicas (by default 3, or as many as there are brokers).
    /// - `kafka+ssl://host:port?ca=/path&user=name&password_file=/path&mechanism=SCRAM-SHA-512`: the same over TLS, with SASL
    ///   if a user is named; needs the cargo feature `kafka-tls`.
    /// - `file:/path`: a log in that folder, which only one process may have open. `?segment_bytes=N` sets the size at which
    ///   a segment is closed (8 MiB by default), the grain of forgetting.
    ///
    /// # Errors
    /// An unknown scheme or parameter, TLS without the feature, a folder that is in use, unreadable or damaged.
    pub fn open(uri: &str, metrics: &mut Registry) -> anyhow::Result<Self> {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        let adapter = match scheme {
            "kafka" | "kafka+ssl" => Adapter::Kafka(kafka::Kafka::open(uri)?),
            "file" => Adapter::File(file::FileLog::open(uri)?),
            _ => anyhow::bail!("bus {uri:?} begins with none of kafka://, kafka+ssl://, file:"),
        };
        Ok(Self { adapter, metrics: Metrics::register(metrics) })
    }

    /// Makes the topic if it is missing, adds partitions if it has too few, and sets what it may forget.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log can't be reached within 10 s.
    pub async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        match &self.adapter {
            Adapter::Kafka(kafka) => kafka.ensure_topic(spec).await,
            Adapter::File(log) => log.ensure_topic(spec).await,
        }
    }

    /// How many partitions the topic has now.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such topic, [`Error::Unavailable`] if the log can't be reached within 10 s.
    pub async fn partitions(&self, topic: &str) -> Result<u32, Error> {
        match &self.adapter {
            Adapter::Kafka(kafka) => kafka.partitions(topic).await,
            Adapter::File(log) => log.partitions(topic),
        }
    }

    /// Appends a record and returns its offset once it is durable: on all in-sync replicas, or synced to disk.
    ///
    /// It waits for as long as the log is away: dropping the future is giving up, and then the record may still be appended.
    ///
    /// # Errors
    /// [`Error::Refused`] for a record over [`RECORD_BYTES_MAX`], with more than [`HEADERS_MAX`] headers, without a key on a
    /// compacted topic, or for a partition that is not there. After [`Error::Unavailable`] it is unknown whether the record
    /// was appended.
    pub async fn produce(&self, topic: &str, partition: u32, record: Record) -> Result<i64, Error> {
        let bytes = record.bytes();
        if bytes > RECORD_BYTES_MAX {
            let why = format!("a record of {bytes} bytes is over the limit of {RECORD_BYTES_MAX}");
            return Err(Error::Refused(why));
        }
        if record.headers.len() > HEADERS_MAX {
            return Err(Error::Refused(format!("a record has at most {HEADERS_MAX} headers")));
        }
        let begun = Instant::now();
        let offset = match &self.adapter {
            Adapter::Kafka(kafka) => kafka.produce(topic, partition, &record).await,
            Adapter::File(log) => log.produce(topic, partition, record).await,
        }?;
        self.metrics.produced(topic, bytes, begun.elapsed());
        Ok(offset)
    }

    /// A reader of one partition. Readers of one topic share their connections.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the log must be asked for its beginning or end and can't be reached within 10 s. An
    /// offset out of range is reported by the first [`Reader::next`].
    pub async fn reader(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<Reader, ReadError> {
        let adapter = match &self.adapter {
            Adapter::Kafka(kafka) => {
                ReaderAdapter::Kafka(kafka.reader(topic, partition, start).await?)
            }
            Adapter::File(log) => ReaderAdapter::File(log.reader(topic, partition, start)?),
        };
        Ok(Reader { adapter, metrics: self.metrics.reading(topic) })
    }

    /// The offset that the partition's next record will get.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn end_offset(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        self.offsets(topic, partition).await.map(|(_, end)| end)
    }

    /// The oldest offset that the partition still holds, or the end if it holds none. 0 on a compacted topic.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn low_offset(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        self.offsets(topic, partition).await.map(|(low, _)| low)
    }

    async fn offsets(&self, topic: &str, partition: u32) -> Result<(i64, i64), Error> {
        match &self.adapter {
            Adapter::Kafka(kafka) => kafka.offsets(topic, partition).await,
            Adapter::File(log) => log.offsets(topic, partition),
        }
    }
}

/// Reads one partition in order.
#[derive(Debug)]
pub struct Reader {
    adapter: ReaderAdapter,
    metrics: Reading,
}

#[derive(Debug)]
enum ReaderAdapter {
    Kafka(kafka::Reader),
    File(file::Reader),
}

impl Reader {
    /// The next records, at least one unless `max_wait` passed without any, at most `max_records`.
    ///
    /// A log that is away is no error: it looks like a log without new records. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when the next offset is not in the log, [`ReadError::Damaged`] when it can't be read: for
    /// this reader it stays so. Records before it are returned first.
    pub async fn next(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Stored>, ReadError> {
        let records = match &mut self.adapter {
            ReaderAdapter::Kafka(reader) => reader.next(max_records, max_wait).await,
            ReaderAdapter::File(reader) => reader.next(max_records, max_wait).await,
        }?;
        self.metrics.read(&records);
        Ok(records)
    }

    /// Whether the log was away since this was last asked. What is read next may come from another log then, whose offsets
    /// mean something else: one that was set up anew can't be told from the old one otherwise.
    pub fn was_cut_off(&mut self) -> bool {
        match &mut self.adapter {
            ReaderAdapter::Kafka(reader) => reader.was_cut_off(),
            ReaderAdapter::File(_) => false,
        }
    }

    /// The next record has this offset or a greater one.
    pub fn position(&self) -> i64 {
        match &self.adapter {
            ReaderAdapter::Kafka(reader) => reader.position(),
            ReaderAdapter::File(reader) => reader.position(),
        }
    }

    /// The offset that the partition's next record will get. It asks the log: not for every record.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn end_offset(&self) -> Result<i64, Error> {
        match &self.adapter {
            ReaderAdapter::Kafka(reader) => reader.offsets().await.map(|(_, end)| end),
            ReaderAdapter::File(reader) => Ok(reader.offsets().1),
        }
    }
}
