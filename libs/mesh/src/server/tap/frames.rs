//! The messages in a stream of bytes: each has a prefix, a flag and four bytes of length (gRPC over HTTP/2).

const PREFIX_BYTES: usize = 5;

/// Splits one direction of a call into messages, and keeps those that are small enough.
#[derive(Debug)]
pub(super) struct Splitter {
    bytes_max: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// How much of the message is still to come.
    missing: usize,
    kept: Vec<u8>,
    count: u64,
    /// All that came, prefixes included.
    pub(super) bytes: u64,
}

/// A message that has come whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) compressed: bool,
    /// None if it is too large.
    pub(super) kept: Option<Vec<u8>>,
}

impl Splitter {
    /// Keeps messages of at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            prefix: [0; PREFIX_BYTES],
            prefix_bytes: 0,
            missing: 0,
            kept: Vec::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// The messages that end in `data`.
    pub(super) fn feed(&mut self, mut data: &[u8], mut each: impl FnMut(Whole)) {
        self.bytes += data.len() as u64;
        while !data.is_empty() {
            if self.prefix_bytes < PREFIX_BYTES {
                let taken = data.len().min(PREFIX_BYTES - self.prefix_bytes);
                let (head, rest) = data.split_at(taken);
                self.prefix[self.prefix_bytes..][..taken].copy_from_slice(head);
                self.prefix_bytes += taken;
                data = rest;
                if self.prefix_bytes < PREFIX_BYTES {
                    return;
                }
                self.missing = self.length();
            } else {
                let (part, rest) = data.split_at(data.len().min(self.missing));
                if self.length() <= self.bytes_max {
                    self.kept.extend_from_slice(part);
                }
                self.missing -= part.len();
                data = rest;
            }
            if self.missing == 0 {
                each(self.end());
            }
        }
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    fn end(&mut self) -> Whole {
        self.prefix_bytes = 0;
        self.count += 1;
        let kept = std::mem::take(&mut self.kept);
        Whole {
            number: self.count,
            bytes: self.length() as u64,
            compressed: self.prefix[0] != 0,
            kept: (self.length() <= self.bytes_max).then_some(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(
            lengths in prop::collection::vec(0_usize..40, 0..8),
            cuts in prop::collection::vec(1_usize..30, 1..80),
        ) {
            let mut wire = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                wire.push(u8::from(number % 2 == 1));
                wire.extend_from_slice(&u32::try_from(*length).unwrap().to_be_bytes());
                wire.extend(std::iter::repeat_n(u8::try_from(number).unwrap(), *length));
            }
            let total = wire.len() as u64;
            let mut splitter = Splitter::new(20);
            let mut seen = Vec::new();
            let mut rest = wire.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                splitter.feed(part, |message| seen.push(message));
                rest = after;
            }
            let expected: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(number, length)| Whole {
                    number: number as u64 + 1,
                    bytes: *length as u64,
                    compressed: number % 2 == 1,
                    kept: (*length <= 20).then(|| vec![u8::try_from(number).unwrap(); *length]),
                })
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(splitter.bytes, total);
        }
    }
}
