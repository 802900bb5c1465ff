//! What goes into a log and what comes out.

use bytes::Bytes;
use jiff::Timestamp;

/// The most bytes of a record: key, headers and value together.
pub const RECORD_BYTES_MAX: usize = 900 * 1024;

/// The most headers of a record.
pub const HEADERS_MAX: usize = 16;

/// A record to be appended to a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What a compacted topic keeps the last record of; optional on others.
    pub key: Option<Bytes>,
    /// Names and values, in this order; at most [`HEADERS_MAX`].
    pub headers: Vec<(&'static str, Bytes)>,
    /// The payload.
    pub value: Bytes,
}

impl Record {
    /// What counts towards [`RECORD_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + headers + self.value.len()
    }
}

/// A record as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the partition. Offsets grow; a compacted topic has gaps.
    pub offset: i64,
    /// When the log took it, by the log's clock (milliseconds from Kafka, microseconds from a file).
    pub append_time: Timestamp,
    /// The key, if it was given one.
    pub key: Option<Bytes>,
    /// Names and values, in the order given.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub value: Bytes,
}

impl Stored {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this offset; the first record at or after it comes first.
    Offset(i64),
    /// After the last record there is when the reader is made.
    End,
    /// At the oldest record there is.
    Beginning,
}
