//! How a click lies in a segment, and how a segment begins.
//!
//! A frame is `crc32 | payload length | partition | number | payload`, integers little-endian, the checksum over all that
//! follows it. A segment begins with `magic | incarnation | sequence | crc32`. Nothing is believed before its checksum.

use uuid::Uuid;

use crate::spool::CLICK_BYTES_MAX;
use crate::topics::PARTITIONS_MAX;

const FRAME_HEAD_BYTES: usize = 20;
const MAGIC: [u8; 8] = *b"lmspool1";

/// The bytes of a segment's header.
pub(crate) const SEGMENT_HEAD_BYTES: usize = 36;

/// The most bytes of a frame.
pub(crate) const FRAME_BYTES_MAX: usize = FRAME_HEAD_BYTES + CLICK_BYTES_MAX;

/// A click as it was found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) partition: u32,
    /// Within incarnation and partition, from 1.
    pub(crate) number: u64,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn bytes(&self) -> usize {
        FRAME_HEAD_BYTES + self.payload.len()
    }
}

/// What lies at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Frame(Frame<'a>),
    /// Perhaps the beginning of a frame: more bytes would tell.
    Incomplete,
    /// No frame.
    Damaged,
}

/// The bytes that a frame of this payload takes.
pub(crate) fn frame_bytes(payload_bytes: usize) -> usize {
    FRAME_HEAD_BYTES + payload_bytes
}

pub(crate) fn push_frame(frame: &Frame<'_>, into: &mut Vec<u8>) {
    assert!(
        frame.payload.len() <= CLICK_BYTES_MAX && frame.partition < PARTITIONS_MAX,
        "append checks its arguments"
    );
    let begin = into.len();
    let length = u32::try_from(frame.payload.len()).expect("bounded above");
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&frame.partition.to_le_bytes());
    into.extend_from_slice(&frame.number.to_le_bytes());
    into.extend_from_slice(frame.payload);
    let checksum = crc32fast::hash(&into[begin + 4..]);
    into[begin..begin + 4].copy_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn find_frame(bytes: &[u8]) -> Found<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Found::Incomplete;
    };
    let length = u32_at(head, 4) as usize;
    let partition = u32_at(head, 8);
    let number = u64_at(head, 12);
    if length > CLICK_BYTES_MAX || partition >= PARTITIONS_MAX || number == 0 {
        return Found::Damaged;
    }
    let Some(payload) = rest.get(..length) else {
        return Found::Incomplete;
    };
    if crc32fast::hash(&bytes[4..FRAME_HEAD_BYTES + length]) != u32_at(head, 0) {
        return Found::Damaged;
    }
    Found::Frame(Frame { partition, number, payload })
}

/// Where the next whole frame begins, looking at every byte: a damaged length can't be trusted to lead to it.
pub(crate) fn find_next_frame(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|&at| matches!(find_frame(&bytes[at..]), Found::Frame(_)))
}

pub(crate) fn segment_head(incarnation: Uuid, sequence: u64) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..24].copy_from_slice(incarnation.as_bytes());
    head[24..32].copy_from_slice(&sequence.to_le_bytes());
    let checksum = crc32fast::hash(&head[..32]);
    head[32..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// The incarnation that wrote the segment, if the header is whole and this segment's.
pub(crate) fn read_segment_head(head: &[u8; SEGMENT_HEAD_BYTES], sequence: u64) -> Option<Uuid> {
    let whole = head[..8] == MAGIC
        && u64_at(head, 24) == sequence
        && u32_at(head, 32) == crc32fast::hash(&head[..32]);
    whole.then(|| Uuid::from_slice(&head[8..24]).expect("16 bytes make a UUID"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(partition: u32, number: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_frame(&Frame { partition, number, payload }, &mut bytes);
        bytes
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_incomplete() {
        let whole = encoded(3, 9, b"a click");
        for length in 0..whole.len() {
            assert_eq!(find_frame(&whole[..length]), Found::Incomplete, "cut to {length}");
        }
    }

    #[test]
    fn a_frame_with_any_bit_turned_is_never_taken_for_whole() {
        let whole = encoded(3, 9, b"a click");
        for bit in 0..whole.len() * 8 {
            let mut turned = whole.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(find_frame(&turned), Found::Frame(_)), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(find_frame(&[0; 64]), Found::Damaged);
        assert_eq!(find_next_frame(&[0; 64]), None);
    }

    #[test]
    fn the_frame_behind_damage_is_found() {
        let mut bytes = encoded(3, 9, b"the first");
        let second = bytes.len();
        bytes.extend(encoded(3, 10, b"the second"));
        bytes[5] ^= 0x40;
        assert_eq!(find_next_frame(&bytes), Some(second));
    }

    #[test]
    fn a_segment_head_is_whole_or_refused() {
        let incarnation = Uuid::from_u128(7);
        let head = segment_head(incarnation, 4);
        assert_eq!(read_segment_head(&head, 4), Some(incarnation));
        assert_eq!(read_segment_head(&head, 5), None);
        for bit in 0..head.len() * 8 {
            let mut turned = head;
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_segment_head(&turned, 4), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_found(
            partition in 0..PARTITIONS_MAX, number in 1_u64.., payload in prop::collection::vec(any::<u8>(), 0..900),
            after in prop::collection::vec(any::<u8>(), 0..90),
        ) {
            let mut bytes = encoded(partition, number, &payload);
            prop_assert_eq!(bytes.len(), frame_bytes(payload.len()));
            bytes.extend(after);
            prop_assert_eq!(find_frame(&bytes), Found::Frame(Frame { partition, number, payload: &payload }));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(find_frame(&bytes), Found::Frame(_)));
            prop_assert_eq!(find_next_frame(&bytes), None);
        }
    }
}
