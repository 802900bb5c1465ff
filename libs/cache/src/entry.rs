//! One remembered answer, positive or negative, and the form that it has in L2.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

/// A value that can be kept in L2.
pub trait Stored: Sized + Send + Sync + 'static {
    /// Appends the value's bytes.
    fn encode(&self, into: &mut Vec<u8>);

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else, which is then read from the source.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// What a source, or an event, says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled<V> {
    /// Grows with every change of the key; 0 for what never was there.
    pub version: i64,
    /// When the primary was read, in microseconds since 1970.
    pub read_micros: i64,
    /// What is there; `None` if nothing is.
    pub value: Option<V>,
}

/// An answer as it is remembered.
#[derive(Debug)]
pub struct Entry<V> {
    /// Its version.
    pub version: i64,
    /// When the primary was read, in microseconds since 1970.
    pub read_micros: i64,
    /// What is there; `None` if nothing is.
    pub value: Option<V>,
    /// Set by a hit, cleared when the shard looks for something to evict.
    pub(crate) used: AtomicBool,
    /// The source is not asked again before this moment; 0 unless it has failed to answer since the entry was made.
    pub(crate) retry_micros: AtomicI64,
}

impl<V> Entry<V> {
    pub(crate) fn new(filled: Filled<V>) -> Self {
        Self {
            version: filled.version,
            read_micros: filled.read_micros,
            value: filled.value,
            used: AtomicBool::new(false),
            retry_micros: AtomicI64::new(0),
        }
    }

    /// Microseconds since the primary was read; a read that lies in the future is as old as it can be said to be: 0.
    pub(crate) fn age_micros(&self, now_micros: i64) -> i64 {
        now_micros.saturating_sub(self.read_micros).max(0)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.retry_micros.load(Ordering::Relaxed) != 0
    }
}

/// Decimal digits that any `i64` from 0 up fits in; text of equal length compares as the numbers do.
const DIGITS: usize = 19;
/// What precedes the value: version, read time, and `+` or `-` for whether there is one.
const HEAD_BYTES: usize = 2 * DIGITS + 1;

/// The form in L2. The first [`ORDER_BYTES`] decide which of two is newer.
pub(crate) fn encode<V: Stored>(entry: &Entry<V>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 256);
    for number in [entry.version, entry.read_micros] {
        bytes.extend_from_slice(format!("{:0DIGITS$}", number.max(0)).as_bytes());
    }
    match &entry.value {
        Some(value) => {
            bytes.push(b'+');
            value.encode(&mut bytes);
        }
        None => bytes.push(b'-'),
    }
    bytes
}

/// How many leading bytes of [`encode`]'s result the newer of two is told by.
pub(crate) const ORDER_BYTES: usize = 2 * DIGITS;

/// Reads what [`encode`] wrote; `None` for anything else.
pub(crate) fn decode<V: Stored>(bytes: &[u8]) -> Option<Filled<V>> {
    let (head, value) = bytes.split_at_checked(HEAD_BYTES)?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
    let value = match (head[HEAD_BYTES - 1], value) {
        (b'+', value) => Some(V::decode(value)?),
        (b'-', []) => None,
        _ => return None,
    };
    Some(Filled {
        version: number(&head[..DIGITS])?,
        read_micros: number(&head[DIGITS..ORDER_BYTES])?,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stored for u8 {
        fn encode(&self, into: &mut Vec<u8>) {
            into.push(*self);
        }
        fn decode(bytes: &[u8]) -> Option<Self> {
            <[u8; 1]>::try_from(bytes).ok().map(|[byte]| byte)
        }
    }

    #[test]
    fn an_entry_reads_back_what_it_writes_positive_and_negative() {
        for value in [Some(7_u8), None] {
            let filled = Filled { version: i64::MAX, read_micros: 5, value };
            assert_eq!(decode(&encode(&Entry::new(filled.clone()))), Some(filled));
        }
    }

    #[test]
    fn bytes_that_are_no_entry_are_not_read_as_one() {
        let good = encode(&Entry::new(Filled { version: 1, read_micros: 2, value: Some(3_u8) }));
        assert!(decode::<u8>(&good).is_some());
        for at in 0..good.len() {
            assert!(decode::<u8>(&good[..at]).is_none(), "cut at {at}");
        }
        assert!(decode::<u8>(&[good.as_slice(), b"x"].concat()).is_none());
        assert!(decode::<u8>(&[b'x'; 60]).is_none());
    }
}
