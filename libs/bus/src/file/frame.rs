//! How a record lies in a segment, and how a segment begins.
//!
//! A frame is `crc32 | body length | offset | append time | body`, integers little-endian, the checksum over all that follows
//! it. The body is `has key (u8) | key | headers (u16) | (name | value)… | value`, each of key, name and value after its length
//! (u32). A segment begins with `magic | base offset | crc32`.

use bytes::Buf as _;
use bytes::Bytes;
use jiff::Timestamp;

use crate::record::HEADERS_MAX;
use crate::record::RECORD_BYTES_MAX;
use crate::record::Record;
use crate::record::Stored;

const FRAME_HEAD_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"lm-log-1";

/// What lengths and counts add to a record.
const BODY_BYTES_MAX: usize = RECORD_BYTES_MAX + 16 + 8 * HEADERS_MAX;

/// The bytes of a segment's header.
pub(crate) const SEGMENT_HEAD_BYTES: usize = 20;

/// The most bytes of a frame.
pub(crate) const FRAME_BYTES_MAX: usize = FRAME_HEAD_BYTES + BODY_BYTES_MAX;

/// What lies at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Frame(Frame),
    /// Perhaps the beginning of a frame: more bytes would tell.
    Incomplete,
    /// No frame.
    Damaged,
}

/// Where a whole frame's parts lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: i64,
    pub(crate) append_micros: i64,
    /// Head and body.
    pub(crate) bytes: usize,
}

pub(crate) fn push_frame(offset: i64, append_time: Timestamp, record: &Record, into: &mut Vec<u8>) {
    assert!(
        record.bytes() <= RECORD_BYTES_MAX && record.headers.len() <= HEADERS_MAX,
        "produce checks its arguments"
    );
    let begin = into.len();
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&offset.to_le_bytes());
    into.extend_from_slice(&append_time.as_microsecond().to_le_bytes());
    into.push(u8::from(record.key.is_some()));
    if let Some(key) = &record.key {
        push_bytes(key, into);
    }
    let headers = u16::try_from(record.headers.len()).expect("bounded above");
    into.extend_from_slice(&headers.to_le_bytes());
    for (name, value) in &record.headers {
        push_bytes(name.as_bytes(), into);
        push_bytes(value, into);
    }
    push_bytes(&record.value, into);
    let length = u32::try_from(into.len() - begin - FRAME_HEAD_BYTES).expect("bounded above");
    into[begin + 4..begin + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&into[begin + 4..]);
    into[begin..begin + 4].copy_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn find_frame(bytes: &[u8]) -> Found {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Found::Incomplete;
    };
    let (checksum, length) = (u32_at(head, 0), u32_at(head, 4) as usize);
    let (offset, append_micros) = (i64_at(head, 8), i64_at(head, 16));
    // The smallest body has a flag, a count and a length.
    if !(7..=BODY_BYTES_MAX).contains(&length) || offset < 0 {
        return Found::Damaged;
    }
    if rest.len() < length {
        return Found::Incomplete;
    }
    let frame_bytes = FRAME_HEAD_BYTES + length;
    if crc32fast::hash(&bytes[4..frame_bytes]) != checksum {
        return Found::Damaged;
    }
    Found::Frame(Frame { offset, append_micros, bytes: frame_bytes })
}

/// Whether a whole frame begins anywhere in these bytes.
pub(crate) fn has_frame(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| matches!(find_frame(&bytes[at..]), Found::Frame(_)))
}

/// The record in a whole frame. None if its parts do not add up, which only a damaged writer explains.
pub(crate) fn read_record(frame: Frame, bytes: &Bytes) -> Option<Stored> {
    let mut body = bytes.slice(FRAME_HEAD_BYTES..frame.bytes);
    let has_key = take(&mut body, 1)?.get_u8();
    let key = if has_key == 1 { Some(take_bytes(&mut body)?) } else { None };
    let count = take(&mut body, 2)?.get_u16_le();
    let mut headers = Vec::with_capacity(usize::from(count).min(HEADERS_MAX));
    for _ in 0..count {
        let name = String::from_utf8(take_bytes(&mut body)?.to_vec()).ok()?;
        headers.push((name, take_bytes(&mut body)?));
    }
    let value = take_bytes(&mut body)?;
    let append_time = Timestamp::from_microsecond(frame.append_micros).ok()?;
    body.is_empty().then_some(Stored { offset: frame.offset, append_time, key, headers, value })
}

pub(crate) fn segment_head(base: i64) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&base.to_le_bytes());
    let checksum = crc32fast::hash(&head[..16]);
    head[16..].copy_from_slice(&checksum.to_le_bytes());
    head
}

fn push_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("a record is smaller");
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(bytes);
}

fn take_bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = take(body, 4)?.get_u32_le();
    take(body, length as usize)
}

fn take(body: &mut Bytes, bytes: usize) -> Option<Bytes> {
    (body.len() >= bytes).then(|| body.split_to(bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(offset: i64, record: &Record) -> Bytes {
        let mut bytes = Vec::new();
        push_frame(offset, Timestamp::UNIX_EPOCH, record, &mut bytes);
        bytes.into()
    }

    fn record() -> Record {
        Record {
            key: Some(Bytes::from_static(b"key")),
            headers: vec![("first", Bytes::from_static(b"1"))],
            value: Bytes::from_static(b"value"),
        }
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_incomplete() {
        let whole = encoded(4, &record());
        for length in 0..whole.len() {
            assert_eq!(find_frame(&whole[..length]), Found::Incomplete, "cut to {length}");
        }
    }

    #[test]
    fn a_frame_with_any_bit_turned_is_never_taken_for_whole() {
        let whole = encoded(4, &record());
        for bit in 0..whole.len() * 8 {
            let mut turned = whole.to_vec();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(find_frame(&turned), Found::Frame(_)), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(find_frame(&[0; 64]), Found::Damaged);
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_read(
            offset in 0..i64::MAX,
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            headers in prop::collection::vec(("a|b|c", prop::collection::vec(any::<u8>(), 0..20)), 0..HEADERS_MAX),
            value in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            const NAMES: [&str; 3] = ["a", "b", "c"];
            let headers = headers.into_iter().map(|(name, value)| {
                (NAMES[usize::from(name.as_bytes()[0] - b'a')], Bytes::from(value))
            }).collect();
            let record = Record { key: key.map(Bytes::from), headers, value: value.into() };
            let bytes = encoded(offset, &record);
            let Found::Frame(frame) = find_frame(&bytes) else { panic!("a whole frame is found") };
            prop_assert_eq!(frame.bytes, bytes.len());
            let stored = read_record(frame, &bytes).unwrap();
            prop_assert_eq!(stored.offset, offset);
            prop_assert_eq!((stored.key, stored.value), (record.key, record.value));
            let names: Vec<_> = record.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(stored.headers, names);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 7..200)) {
            prop_assert!(!has_frame(&body));
            // A body under a checksum that is right, as no writer of ours makes it.
            let mut bytes = vec![0; FRAME_HEAD_BYTES];
            bytes[4..8].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            bytes.extend(&body);
            let checksum = crc32fast::hash(&bytes[4..]);
            bytes[..4].copy_from_slice(&checksum.to_le_bytes());
            let bytes = Bytes::from(bytes);
            let Found::Frame(frame) = find_frame(&bytes) else { panic!("the checksum is right") };
            drop(read_record(frame, &bytes));
        }
    }
}
