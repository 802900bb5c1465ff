//! The bytes in which a rollup's minutes and dimensions are stored: versioned, checked when read.
//!
//! Minutes, version 1: `1`, then 15 pairs of varints (people's clicks, bots' clicks).
//! Dimensions, version 1: `1`, then per dimension that has values: its number, the length of what follows for it, and
//! for each value its length, its bytes (UTF-8) and two varints. The length lets a reader skip the other dimensions.

use super::click::DIMENSIONS;
use super::click::Dimension;
use super::counts::Counts;
use super::quarter::MINUTES;

const MINUTES_VERSION: u8 = 1;
const DIMENSIONS_VERSION: u8 = 1;
/// A varint of 64 bits takes at most this many bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Stored bytes that no version of this program wrote: what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored rollup is damaged: {0}")]
pub struct Damaged(pub &'static str);

/// Packs the counts of each minute.
pub fn pack_minutes(minutes: &[Counts; MINUTES]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(1 + 2 * MINUTES);
    packed.push(MINUTES_VERSION);
    for counts in minutes {
        put_varint(&mut packed, counts.clicks);
        put_varint(&mut packed, counts.bot_clicks);
    }
    packed
}

/// Reads what [`pack_minutes`] wrote.
pub fn unpack_minutes(packed: &[u8]) -> Result<[Counts; MINUTES], Damaged> {
    let mut reader = Reader(packed);
    if reader.byte()? != MINUTES_VERSION {
        return Err(Damaged("minutes: unknown version"));
    }
    let mut minutes = [Counts::default(); MINUTES];
    for counts in &mut minutes {
        *counts = reader.counts()?;
    }
    if !reader.0.is_empty() {
        return Err(Damaged("minutes: bytes left over"));
    }
    Ok(minutes)
}

/// Writes dimensions one after the other, each value by value.
#[derive(Debug)]
pub struct DimensionsWriter {
    packed: Vec<u8>,
    body: Vec<u8>,
}

impl Default for DimensionsWriter {
    fn default() -> Self {
        DimensionsWriter { packed: vec![DIMENSIONS_VERSION], body: Vec::new() }
    }
}

impl DimensionsWriter {
    /// Writes one dimension; one without values leaves no trace.
    pub fn dimension<'a>(
        &mut self,
        dimension: Dimension,
        values: impl Iterator<Item = (&'a str, Counts)>,
    ) {
        self.body.clear();
        for (value, counts) in values {
            put_varint(&mut self.body, value.len() as u64);
            self.body.extend_from_slice(value.as_bytes());
            put_varint(&mut self.body, counts.clicks);
            put_varint(&mut self.body, counts.bot_clicks);
        }
        if self.body.is_empty() {
            return;
        }
        self.packed.push(dimension.number());
        put_varint(&mut self.packed, self.body.len() as u64);
        self.packed.extend_from_slice(&self.body);
    }

    /// All that was written.
    pub fn finish(self) -> Vec<u8> {
        self.packed
    }
}

/// Reads what a [`DimensionsWriter`] wrote, giving each value of `only` (or of every dimension) to `each`.
pub fn read_dimensions(
    packed: &[u8],
    only: Option<Dimension>,
    mut each: impl FnMut(Dimension, &str, Counts),
) -> Result<(), Damaged> {
    let mut reader = Reader(packed);
    if reader.byte()? != DIMENSIONS_VERSION {
        return Err(Damaged("dimensions: unknown version"));
    }
    while !reader.0.is_empty() {
        let number = reader.byte()?;
        let dimension = DIMENSIONS.into_iter().find(|known| known.number() == number);
        let dimension = dimension.ok_or(Damaged("dimensions: unknown dimension"))?;
        let length = reader.length()?;
        let mut body = Reader(reader.bytes(length)?);
        if only.is_some_and(|wanted| wanted != dimension) {
            continue;
        }
        while !body.0.is_empty() {
            let length = body.length()?;
            let value = std::str::from_utf8(body.bytes(length)?)
                .map_err(|_| Damaged("dimensions: a value is not UTF-8"))?;
            let counts = body.counts()?;
            each(dimension, value, counts);
        }
    }
    Ok(())
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push((value & 0x7f) as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged("cut short"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged("cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.varint()?).map_err(|_| Damaged("a length is out of range"))
    }

    fn counts(&mut self) -> Result<Counts, Damaged> {
        Ok(Counts { clicks: self.varint()?, bot_clicks: self.varint()? })
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                return Err(Damaged("a number is out of range"));
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged("a number is out of range"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Counts> {
        (any::<u64>(), any::<u64>()).prop_map(|(clicks, bot_clicks)| Counts { clicks, bot_clicks })
    }

    proptest! {
        #[test]
        fn minutes_are_read_back_as_packed(all in proptest::collection::vec(counts(), MINUTES)) {
            let minutes: [Counts; MINUTES] = all.try_into().unwrap();
            prop_assert_eq!(unpack_minutes(&pack_minutes(&minutes)), Ok(minutes));
        }

        #[test]
        fn dimensions_are_read_back_as_packed(
            all in proptest::collection::btree_map(
                (0usize..DIMENSIONS.len(), ".{0,20}"), counts(), 0..60),
        ) {
            let mut writer = DimensionsWriter::default();
            for (index, dimension) in DIMENSIONS.into_iter().enumerate() {
                let values = all.iter().filter(|((of, _), _)| *of == index);
                writer.dimension(dimension, values.map(|((_, value), counts)| (value.as_str(), *counts)));
            }
            let packed = writer.finish();
            let mut again = BTreeMap::new();
            read_dimensions(&packed, None, |dimension, value, counts| {
                let index = DIMENSIONS.iter().position(|known| *known == dimension).unwrap();
                again.insert((index, value.to_owned()), counts);
            }).unwrap();
            prop_assert_eq!(&again, &all);
            for (index, dimension) in DIMENSIONS.into_iter().enumerate() {
                let mut seen = 0;
                read_dimensions(&packed, Some(dimension), |_, _, _| seen += 1).unwrap();
                prop_assert_eq!(seen, all.keys().filter(|(of, _)| *of == index).count());
            }
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _refused = unpack_minutes(&bytes).is_err();
            let _refused = read_dimensions(&bytes, None, |_, _, _| {}).is_err();
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_damaged() {
        let packed = pack_minutes(&[Counts { clicks: 300, bot_clicks: 1 }; MINUTES]);
        assert!(unpack_minutes(&packed[..packed.len() - 1]).is_err());
        assert!(unpack_minutes(&[packed.as_slice(), &[0]].concat()).is_err());
        assert!(unpack_minutes(&[&[2], &packed[1..]].concat()).is_err());
        assert!(read_dimensions(&[], None, |_, _, _| {}).is_err());
        assert!(read_dimensions(&[1, 200], None, |_, _, _| {}).is_err());
    }
}
