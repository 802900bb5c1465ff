//! Clicks that were not folded: why, and where they came from.

use super::ledger::Incarnation;

/// Why clicks became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// They are no `Click` of a version that this build reads.
    Undecodable,
    /// Older than the retention, or too far ahead.
    OutOfWindow,
    /// Whether they were folded before is no longer known.
    Expired,
    /// The store refuses their values.
    Refused,
    /// The record's headers don't say which clicks it holds.
    UnreadableRecord,
}

impl Reason {
    /// Every one, for metrics and for reading names.
    pub const ALL: [Reason; 5] = [
        Reason::Undecodable,
        Reason::OutOfWindow,
        Reason::Expired,
        Reason::Refused,
        Reason::UnreadableRecord,
    ];

    /// As the API and the store name it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Undecodable => "undecodable",
            Reason::OutOfWindow => "out_of_window",
            Reason::Expired => "expired",
            Reason::Refused => "refused",
            Reason::UnreadableRecord => "unreadable_record",
        }
    }

    /// The reason of a name.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A dead letter, before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The incarnation that numbered the clicks; nothing if the record's headers are unreadable.
    pub incarnation: Option<Incarnation>,
    /// The (first) click's number; or the record's offset.
    pub number: u64,
    /// Why.
    pub reason: Reason,
    /// What is wrong, for people.
    pub detail: String,
    /// The encoded click, or the record's whole value.
    pub payload: bytes::Bytes,
    /// The payload is a record's whole value.
    pub whole_record: bool,
    /// When the record was appended, microseconds since 1970.
    pub append_micros: i64,
}
