//! The records of `link-events`: one incarnation's consecutive clicks for one partition.
//!
//! The headers say whose clicks they are and which numbers they bear, so that a reader knows what it has counted without
//! decoding the value: `incarnation` (16 bytes), `first` (u64), `count` (u32), `version` (u8), integers big-endian.

use bytes::BufMut as _;
use bytes::Bytes;
use bytes::BytesMut;
use jiff::Timestamp;
use prost::Message as _;
use prost::encoding::WireType;
use prost::encoding::encode_key;
use prost::encoding::encode_varint;
use uuid::Uuid;

use proto::events::v1::ClickBatch;

use crate::record::Record;
use crate::record::Stored;

/// The version of the click event that this build writes and reads.
pub const VERSION: u8 = 1;

/// The most clicks in a record.
pub const CLICKS_MAX: u32 = 4096;

const INCARNATION: &str = "incarnation";
const FIRST: &str = "first";
const COUNT: &str = "count";
const VERSION_HEADER: &str = "version";

/// `ClickBatch.clicks`, by its number in `proto/`.
const CLICKS_FIELD: u32 = 1;

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

impl ClickRecord {
    /// The number of the last click.
    pub fn last(&self) -> u64 {
        self.first + self.clicks.len() as u64 - 1
    }
}

/// The clicks that a record's headers promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The spool's incarnation that wrote them.
    pub incarnation: Uuid,
    /// The number of the first click, 1 or more.
    pub first: u64,
    /// The number of the last click, at least `first`.
    pub last: u64,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "clicks {} to {} of incarnation {}", self.first, self.last, self.incarnation)
    }
}

/// Why a record of `link-events` can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A header is missing, has the wrong length or an impossible value: nobody knows which clicks these are.
    #[error("header {header}: {why}")]
    Header {
        /// The header's name.
        header: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The record was written by a later build.
    #[error("{range}: version {version} is unknown, this build reads {VERSION}")]
    Version {
        /// Which clicks they are.
        range: Range,
        /// What the header says.
        version: u8,
    },
    /// The value is not a `ClickBatch`.
    #[error("{range}: the value is no batch: {why}")]
    Value {
        /// Which clicks they are.
        range: Range,
        /// What the decoder says.
        why: String,
    },
    /// The headers promise another number of clicks than the value holds.
    #[error("{range}: the value holds {held} clicks")]
    Count {
        /// Which clicks they should be.
        range: Range,
        /// How many clicks the value holds.
        held: usize,
    },
}

impl DecodeError {
    /// Which clicks could not be read, if the headers tell.
    pub fn range(&self) -> Option<Range> {
        match self {
            Self::Header { .. } => None,
            Self::Version { range, .. } | Self::Value { range, .. } | Self::Count { range, .. } => {
                Some(*range)
            }
        }
    }
}

/// The record that carries these clicks.
///
/// # Panics
/// Without clicks, or with more than [`CLICKS_MAX`]: the caller groups them.
pub fn encode(clicks: &ClickRecord) -> Record {
    let mut value = BytesMut::new();
    for click in &clicks.clicks {
        push(&mut value, click);
    }
    let count = u32::try_from(clicks.clicks.len()).expect("no caller groups four billion clicks");
    record(clicks.incarnation, clicks.first, count, value.freeze())
}

/// Appends one click to the value of a record.
pub(crate) fn push(value: &mut BytesMut, click: &[u8]) {
    encode_key(CLICKS_FIELD, WireType::LengthDelimited, value);
    encode_varint(click.len() as u64, value);
    value.put_slice(click);
}

/// The record around a value made by [`push`].
pub(crate) fn record(incarnation: Uuid, first: u64, count: u32, value: Bytes) -> Record {
    assert!(
        first >= 1 && (1..=CLICKS_MAX).contains(&count),
        "a record has 1 to {CLICKS_MAX} clicks"
    );
    Record {
        key: None,
        headers: vec![
            (INCARNATION, Bytes::copy_from_slice(incarnation.as_bytes())),
            (FIRST, Bytes::copy_from_slice(&first.to_be_bytes())),
            (COUNT, Bytes::copy_from_slice(&count.to_be_bytes())),
            (VERSION_HEADER, Bytes::from_static(&[VERSION])),
        ],
        value,
    }
}

/// The clicks that a record carries.
///
/// # Errors
/// See [`DecodeError`]. A click that is itself no `Click` is no error here: the others must not suffer from it.
pub fn decode(stored: &Stored) -> Result<ClickRecord, DecodeError> {
    let range = range(stored)?;
    let [version] = header::<1>(stored, VERSION_HEADER)?;
    if version != VERSION {
        return Err(DecodeError::Version { range, version });
    }
    let batch = ClickBatch::decode(stored.value.clone())
        .map_err(|error| DecodeError::Value { range, why: error.to_string() })?;
    if batch.clicks.len() as u64 != range.last - range.first + 1 {
        return Err(DecodeError::Count { range, held: batch.clicks.len() });
    }
    Ok(ClickRecord { incarnation: range.incarnation, first: range.first, clicks: batch.clicks })
}

/// Which clicks a record carries, by its headers alone.
///
/// # Errors
/// [`DecodeError::Header`].
pub fn range(stored: &Stored) -> Result<Range, DecodeError> {
    let incarnation = Uuid::from_bytes(header(stored, INCARNATION)?);
    if opened(incarnation).is_none() {
        return Err(DecodeError::Header { header: INCARNATION, why: "is not a UUIDv7" });
    }
    let first = u64::from_be_bytes(header(stored, FIRST)?);
    if first == 0 {
        return Err(DecodeError::Header { header: FIRST, why: "numbers begin at 1" });
    }
    let count = u32::from_be_bytes(header(stored, COUNT)?);
    if !(1..=CLICKS_MAX).contains(&count) {
        return Err(DecodeError::Header { header: COUNT, why: "is not within 1 to 4096" });
    }
    match first.checked_add(u64::from(count) - 1) {
        // No store counts further; no spool ever gets there.
        Some(last) if i64::try_from(last).is_ok() => Ok(Range { incarnation, first, last }),
        _ => Err(DecodeError::Header { header: FIRST, why: "is too great" }),
    }
}

/// When an incarnation was opened: the time in its UUIDv7, in whole milliseconds. None for any other UUID.
pub fn opened(incarnation: Uuid) -> Option<Timestamp> {
    if incarnation.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanoseconds) = incarnation.get_timestamp()?.to_unix();
    let nanoseconds = i32::try_from(nanoseconds).ok()?;
    Timestamp::new(i64::try_from(seconds).ok()?, nanoseconds).ok()
}

fn header<const LENGTH: usize>(
    stored: &Stored,
    header: &'static str,
) -> Result<[u8; LENGTH], DecodeError> {
    let Some(value) = stored.header(header) else {
        return Err(DecodeError::Header { header, why: "is missing" });
    };
    let Ok(value) = <[u8; LENGTH]>::try_from(value.as_ref()) else {
        return Err(DecodeError::Header { header, why: "has the wrong length" });
    };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(record: Record) -> Stored {
        Stored {
            offset: 0,
            append_time: Timestamp::UNIX_EPOCH,
            key: record.key,
            headers: record
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            value: record.value,
        }
    }

    fn incarnation() -> Uuid {
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_700_000_000, 123_000_000))
    }

    fn three_clicks() -> ClickRecord {
        ClickRecord {
            incarnation: incarnation(),
            first: 7,
            clicks: vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"ccc")],
        }
    }

    #[test]
    fn an_incarnation_tells_when_it_was_opened() {
        assert_eq!(opened(incarnation()).unwrap().as_millisecond(), 1_700_000_000_123);
        assert_eq!(opened(Uuid::nil()), None);
    }

    #[test]
    fn the_value_is_what_prost_would_write() {
        let record = encode(&three_clicks());
        let batch = ClickBatch { clicks: three_clicks().clicks };
        assert_eq!(record.value, batch.encode_to_vec());
        assert_eq!(three_clicks().last(), 9);
    }

    #[test]
    fn every_missing_or_short_header_is_named() {
        for index in 0..4 {
            let mut missing = stored(encode(&three_clicks()));
            let (name, value) = missing.headers.remove(index);
            assert!(matches!(
                decode(&missing),
                Err(DecodeError::Header { header, why: "is missing" }) if header == name
            ));
            let mut short = missing;
            short.headers.push((name.clone(), value.slice(..value.len() - 1)));
            assert!(matches!(
                decode(&short),
                Err(DecodeError::Header { header, why: "has the wrong length" }) if header == name
            ));
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        let with = |index: usize, value: &[u8]| {
            let mut changed = stored(encode(&three_clicks()));
            changed.headers[index].1 = Bytes::copy_from_slice(value);
            decode(&changed).unwrap_err()
        };
        assert!(matches!(
            with(0, Uuid::nil().as_bytes()),
            DecodeError::Header { header: "incarnation", .. }
        ));
        assert!(matches!(
            with(1, &0_u64.to_be_bytes()),
            DecodeError::Header { header: "first", .. }
        ));
        for beyond in [u64::MAX, i64::MAX as u64] {
            assert!(matches!(
                with(1, &beyond.to_be_bytes()),
                DecodeError::Header { header: "first", .. }
            ));
        }
        assert!(matches!(
            with(2, &0_u32.to_be_bytes()),
            DecodeError::Header { header: "count", .. }
        ));
        assert!(matches!(
            with(2, &4097_u32.to_be_bytes()),
            DecodeError::Header { header: "count", .. }
        ));
        let Range { first: 7, last: 8, .. } = with(2, &2_u32.to_be_bytes()).range().unwrap() else {
            panic!("a wrong count still tells the numbers")
        };
        assert!(matches!(with(2, &2_u32.to_be_bytes()), DecodeError::Count { held: 3, .. }));
        assert!(matches!(with(3, &[9]), DecodeError::Version { version: 9, .. }));
    }

    #[test]
    fn a_value_cut_anywhere_is_an_error_that_names_the_clicks() {
        let whole = stored(encode(&three_clicks()));
        for length in 0..whole.value.len() {
            let mut cut = whole.clone();
            cut.value.truncate(length);
            let error = decode(&cut).unwrap_err();
            assert_eq!(error.range().unwrap().last, 9, "cut to {length}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            first in 1..i64::MAX as u64 - 5000,
            clicks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..50),
        ) {
            let clicks = clicks.into_iter().map(Bytes::from).collect();
            let record = ClickRecord { incarnation: incarnation(), first, clicks };
            prop_assert_eq!(decode(&stored(encode(&record))), Ok(record));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            headers in prop::collection::vec(
                ("incarnation|first|count|version", prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            value in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let headers = headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
            let stored = Stored {
                offset: 0, append_time: Timestamp::UNIX_EPOCH, key: None, headers, value: value.into(),
            };
            drop(decode(&stored));
        }
    }
}
