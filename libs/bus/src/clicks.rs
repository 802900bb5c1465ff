//! The records of `link-events`: one incarnation's consecutive clicks for one partition.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::record::Record;
use crate::record::Stored;

/// The version of the click event that this build writes and reads.
pub const VERSION: u8 = 1;

/// The most clicks in a record.
pub const CLICKS_MAX: usize = 4096;

/// What a record of `link-events` says: clicks `first` to `first + clicks.len() - 1` of an incarnation, for the
/// partition that holds the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickRecord {
    /// The spool's incarnation that wrote the clicks: a UUIDv7.
    pub incarnation: Uuid,
    /// The number of the first click; numbers of an incarnation and partition begin at 1 and have no holes.
    pub first: u64,
    /// Each an encoded `linkmesh.events.v1.Click`; 1 to [`CLICKS_MAX`] of them.
    pub clicks: Vec<Bytes>,
}

/// Why a record of `link-events` can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A header is missing, has the wrong length or an impossible value.
    #[error("header {header}: {why}")]
    Header {
        /// The header's name.
        header: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The record was written by a later build.
    #[error("click event version {version} is unknown, this build reads {VERSION}")]
    Version {
        /// What the header says.
        version: u8,
    },
    /// The headers are readable, the value is not a `ClickBatch`.
    #[error("clicks {first} to {last} of incarnation {incarnation}: the value is no batch: {why}")]
    Value {
        /// The incarnation of the headers.
        incarnation: Uuid,
        /// The number of the first click, by the headers.
        first: u64,
        /// The number of the last click, by the headers.
        last: u64,
        /// What the decoder says.
        why: String,
    },
    /// The headers promise another number of clicks than the value holds.
    #[error("clicks {first} to {last} of incarnation {incarnation}: the value holds {held} clicks")]
    Count {
        /// The incarnation of the headers.
        incarnation: Uuid,
        /// The number of the first click, by the headers.
        first: u64,
        /// The number of the last click, by the headers.
        last: u64,
        /// How many clicks the value holds.
        held: usize,
    },
}

/// The record that carries these clicks.
pub fn encode(clicks: &ClickRecord) -> Record {
    let _ = clicks;
    todo!()
}

/// The clicks that a record carries.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(stored: &Stored) -> Result<ClickRecord, DecodeError> {
    let _ = stored;
    todo!()
}

/// When an incarnation was opened: the time in its UUIDv7, in whole milliseconds.
pub fn opened(incarnation: Uuid) -> Option<Timestamp> {
    let _ = incarnation;
    todo!()
}
