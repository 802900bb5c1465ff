//! Places in a partitioned log, click by click: what a watcher's resume token says.

/// The next click of a partition: its record's offset, and its place in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The record's offset, from 0.
    pub offset: i64,
    /// The click's place in it, from 0.
    pub index: u32,
}

/// The next click of every partition. A partition that is not named begins at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(Vec<Position>);

const VERSION: u8 = 1;
/// Version, checksum.
const HEAD_BYTES: usize = 5;
const PARTITIONS_MAX: usize = 4_096;

impl Positions {
    /// How many partitions are named.
    pub fn partitions(&self) -> usize {
        self.0.len()
    }

    /// The next click of a partition.
    pub fn at(&self, partition: u32) -> Position {
        self.0.get(partition as usize).copied().unwrap_or_default()
    }

    /// Goes past a click. False: it had been passed before.
    pub fn advance(&mut self, partition: u32, offset: i64, index: u32) -> bool {
        let place = self.place(partition);
        if (Position { offset, index }) < *place {
            return false;
        }
        *place = Position { offset, index: index + 1 };
        true
    }

    /// Goes to the start of a record, unless it is past it already.
    pub fn pass(&mut self, partition: u32, offset: i64) {
        let place = self.place(partition);
        *place = (*place).max(Position { offset, index: 0 });
    }

    /// [`Positions::pass`] for all partitions.
    pub fn reach(&mut self, offsets: &[i64]) {
        for (partition, offset) in (0..).zip(offsets) {
            self.pass(partition, *offset);
        }
    }

    /// As bytes for a token.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        for Position { offset, index } in &self.0 {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&index.to_be_bytes());
        }
        bytes[0] = VERSION;
        let checksum = checksum(&bytes[HEAD_BYTES..]);
        bytes[1..HEAD_BYTES].copy_from_slice(&checksum);
        bytes
    }

    /// Reads what [`Positions::encode`] wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Option<Positions> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
        if head[0] != VERSION || head[1..] != checksum(body) {
            return None;
        }
        let (places, []) = body.as_chunks::<12>() else { return None };
        if places.is_empty() || places.len() > PARTITIONS_MAX {
            return None;
        }
        let read = |place: &[u8; 12]| {
            let (offset, index) = place.split_at(8);
            let offset = i64::from_be_bytes(offset.try_into().ok()?);
            let index = u32::from_be_bytes(index.try_into().ok()?);
            (offset >= 0).then_some(Position { offset, index })
        };
        places.iter().map(read).collect::<Option<Vec<_>>>().map(Positions)
    }

    fn place(&mut self, partition: u32) -> &mut Position {
        let partition = partition as usize;
        if self.0.len() <= partition {
            self.0.resize(partition + 1, Position::default());
        }
        &mut self.0[partition]
    }
}

/// Against mistakes, not against forgers: a forged place reaches only what its caller may see.
fn checksum(body: &[u8]) -> [u8; 4] {
    // FNV-1a, spelled out because a token must mean the same in every version of every library.
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, ..] = hash.to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_click_is_passed_once() {
        let mut positions = Positions::default();
        assert!(positions.advance(2, 7, 0));
        assert!(!positions.advance(2, 7, 0));
        assert!(positions.advance(2, 7, 1));
        assert!(!positions.advance(2, 6, 9));
        positions.pass(2, 7);
        assert_eq!(positions.at(2), Position { offset: 7, index: 2 });
        positions.reach(&[1, 0, 8]);
        assert_eq!(positions.at(2), Position { offset: 8, index: 0 });
        assert_eq!((positions.at(0).offset, positions.at(9).offset), (1, 0));
    }

    proptest! {
        #[test]
        fn tokens_are_read_back(places in proptest::collection::vec((0i64.., any::<u32>()), 1..50)) {
            let positions = Positions(places.into_iter().map(|(offset, index)| Position { offset, index }).collect());
            prop_assert_eq!(Positions::decode(&positions.encode()), Some(positions));
        }

        #[test]
        fn what_was_not_written_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(Positions::decode(&bytes), None);
            bytes.extend_from_slice(&Positions(vec![Position::default()]).encode());
            prop_assert!(bytes.len() == 17 || Positions::decode(&bytes).is_none());
        }
    }
}
