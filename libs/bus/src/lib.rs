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
mod record;
pub mod spool;
pub mod topics;

use std::time::Duration;

use prometheus_client::registry::Registry;

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
    /// - `kafka+ssl://[user:password@]host:port?ca=/path&mechanism=SCRAM-SHA-512`: the same over TLS; needs the cargo
    ///   feature `kafka-tls`.
    /// - `file:/path`: a log in that folder, which only one process may have open.
    ///
    /// # Errors
    /// An unknown scheme or parameter, TLS without the feature, a folder that is in use, unreadable or damaged.
    pub fn open(uri: &str, metrics: &mut Registry) -> anyhow::Result<Self> {
        let _ = (uri, metrics);
        todo!()
    }

    /// Makes the topic if it is missing, adds partitions if it has too few, and sets what it may forget.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log can't be reached within 10 s.
    pub async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let _ = spec;
        todo!()
    }

    /// How many partitions the topic has now.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such topic, [`Error::Unavailable`] if the log can't be reached within 10 s.
    pub async fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let _ = topic;
        todo!()
    }

    /// Appends a record and returns its offset once it is durable: on all in-sync replicas, or synced to disk.
    ///
    /// It waits for as long as the log is away: dropping the future is giving up, and then the record may still be appended.
    ///
    /// # Errors
    /// [`Error::Refused`] for a record over [`RECORD_BYTES_MAX`] or a partition that is not there. After
    /// [`Error::Unavailable`] it is unknown whether the record was appended.
    pub async fn produce(&self, topic: &str, partition: u32, record: Record) -> Result<i64, Error> {
        let _ = (topic, partition, record);
        todo!()
    }

    /// A reader of one partition. Readers of one topic share their connections.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the log must be asked for its beginning or end and can't be reached within 10 s. An
    /// offset out of range is reported by the first [`Reader::next`].
    pub async fn reader(&self, topic: &str, partition: u32, start: Start) -> Result<Reader, ReadError> {
        let _ = (topic, partition, start);
        todo!()
    }

    /// The offset that the partition's next record will get.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn end_offset(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        let _ = (topic, partition);
        todo!()
    }

    /// The oldest offset that the partition still holds, or the end if it holds none.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn low_offset(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        let _ = (topic, partition);
        todo!()
    }
}

/// Reads one partition in order.
#[derive(Debug)]
pub struct Reader {
    adapter: ReaderAdapter,
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
    /// [`ReadError::OutOfRange`] when the next offset is not in the log; it stays so for this reader.
    pub async fn next(&mut self, max_records: usize, max_wait: Duration) -> Result<Vec<Stored>, ReadError> {
        let _ = (max_records, max_wait);
        todo!()
    }

    /// The offset that the next record will have, or be after.
    pub fn position(&self) -> i64 {
        todo!()
    }

    /// The offset that the partition's next record will get. It asks the log: not for every record.
    ///
    /// # Errors
    /// As [`Bus::partitions`].
    pub async fn end_offset(&self) -> Result<i64, Error> {
        todo!()
    }
}
