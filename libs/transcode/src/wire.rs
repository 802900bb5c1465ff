//! Protobuf's wire format: varints, tags, lengths and what is skipped. No input makes it panic or read past its end.

/// How deeply messages and groups may nest in wire bytes, as in JSON: protobuf's own default.
pub(crate) const DEPTH_MAX: usize = 100;

/// The longest message that protobuf knows, in bytes.
pub(crate) const BYTES_MAX: usize = i32::MAX as usize;

/// The largest field number.
const NUMBER_MAX: u32 = (1 << 29) - 1;

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

pub(crate) const TRUNCATED: Broken = Broken("it ends in the middle of a field");
pub(crate) const TOO_DEEP: Broken = Broken("messages nest deeper than 100");
pub(crate) const NOT_UTF8: Broken = Broken("a text is not UTF-8");
pub(crate) const NOT_ITS_OWN: Broken = Broken("a field has another wire type than its own");

/// How a field's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Delimited,
    GroupStart,
    GroupEnd,
    Fixed32,
}

impl WireType {
    fn of(bits: u32) -> Result<Self, Broken> {
        match bits {
            0 => Ok(Self::Varint),
            1 => Ok(Self::Fixed64),
            2 => Ok(Self::Delimited),
            3 => Ok(Self::GroupStart),
            4 => Ok(Self::GroupEnd),
            5 => Ok(Self::Fixed32),
            _ => Err(Broken("a field has an unknown wire type")),
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Delimited => 2,
            Self::GroupStart => 3,
            Self::GroupEnd => 4,
            Self::Fixed32 => 5,
        }
    }
}

/// Reads wire bytes from front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'w> {
    pub(crate) bytes: &'w [u8],
    pub(crate) at: usize,
}

impl<'w> Cursor<'w> {
    pub(crate) fn new(bytes: &'w [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Broken> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_varint(),
            None => Err(TRUNCATED),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for shift in 0..10 {
            let byte = *self.bytes.get(self.at).ok_or(TRUNCATED)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                let fits = shift < 9 || byte < 2;
                return if fits { Ok(value) } else { Err(Broken("a varint is too long")) };
            }
        }
        Err(Broken("a varint is too long"))
    }

    /// A field's number and the layout of what follows.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<(u32, WireType), Broken> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Broken("a field has no number"))?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Broken("a field has no number"));
        }
        Ok((number, WireType::of(tag & 7)?))
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, Broken> {
        self.take(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Broken> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// What a length stands before.
    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<&'w [u8], Broken> {
        let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
        self.take(length)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'w [u8], Broken> {
        let end = self.at.checked_add(length).ok_or(TRUNCATED)?;
        let taken = self.bytes.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(taken)
    }

    /// What is in a group whose start was read, up to its end.
    pub(crate) fn group(&mut self, number: u32, depth: usize) -> Result<&'w [u8], Broken> {
        let start = self.at;
        if depth >= DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        loop {
            let end = self.at;
            let (inner, wire_type) = self.tag()?;
            if wire_type != WireType::GroupEnd {
                self.skip(inner, wire_type, depth + 1)?;
            } else if inner == number {
                return Ok(&self.bytes[start..end]);
            } else {
                return Err(Broken("a group ends that did not begin"));
            }
        }
    }

    /// Passes over the value of a field whose tag was read.
    #[inline]
    pub(crate) fn skip(
        &mut self,
        number: u32,
        wire_type: WireType,
        depth: usize,
    ) -> Result<(), Broken> {
        match wire_type {
            WireType::Varint => self.varint().map(|_| ()),
            WireType::Fixed64 => self.take(8).map(|_| ()),
            WireType::Delimited => self.delimited().map(|_| ()),
            WireType::GroupStart => self.group(number, depth).map(|_| ()),
            WireType::GroupEnd => Err(Broken("a group ends that did not begin")),
            WireType::Fixed32 => self.take(4).map(|_| ()),
        }
    }
}

/// An encoded tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    bytes: [u8; 5],
    length: u8,
}

impl Tag {
    /// For values of a packed field, which have none of their own.
    pub(crate) const NONE: Self = Self { bytes: [0; 5], length: 0 };

    pub(crate) fn new(number: u32, wire_type: WireType) -> Self {
        assert!((1..=NUMBER_MAX).contains(&number), "descriptors have no other numbers");
        let mut bytes = Vec::with_capacity(5);
        put_varint(&mut bytes, u64::from(number << 3 | wire_type.bits()));
        let mut tag = Self::NONE;
        tag.bytes[..bytes.len()].copy_from_slice(&bytes);
        tag.length = u8::try_from(bytes.len()).expect("at most five");
        tag
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.length)
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if self.length == 1 {
            out.push(self.bytes[0]);
        } else {
            out.extend_from_slice(&self.bytes[..usize::from(self.length)]);
        }
    }
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[inline]
pub(crate) fn put_delimited(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Leaves room for a length below 128, which most are, and says where.
#[inline]
pub(crate) fn open(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len() - 1
}

/// Fills in the length of what was written since [`open`]; a longer one moves that to make room.
#[inline]
pub(crate) fn close(out: &mut Vec<u8>, mark: usize) {
    let start = mark + 1;
    let length = out.len() - start;
    if length < 0x80 {
        out[mark] = length.to_le_bytes()[0];
    } else {
        close_long(out, start, length);
    }
}

fn close_long(out: &mut Vec<u8>, start: usize, length: usize) {
    let mut rest = length >> 7;
    let mut room = 0;
    while rest > 0 {
        room += 1;
        rest >>= 7;
    }
    out.resize(out.len() + room, 0);
    out.copy_within(start..start + length, start + room);
    let mut value = length;
    for byte in &mut out[start - 1..start + room] {
        *byte = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
    }
    out[start - 1 + room] &= 0x7f;
}

pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The bytes of the last value that a path of singular fields leads to, through every occurrence of the messages on the way.
///
/// # Errors
/// The bytes are no message.
pub(crate) fn last_of<'w>(
    wire: &'w [u8],
    path: &[u32],
) -> Result<Option<(WireType, &'w [u8])>, Broken> {
    let Some((first, rest)) = path.split_first() else { return Ok(None) };
    let mut found = None;
    let mut cursor = Cursor::new(wire);
    while !cursor.is_at_end() {
        let (number, wire_type) = cursor.tag()?;
        if number != *first {
            cursor.skip(number, wire_type, 0)?;
        } else if rest.is_empty() {
            let start = cursor.at;
            cursor.skip(number, wire_type, 0)?;
            found = Some((wire_type, &wire[start..cursor.at]));
        } else {
            let inner = match wire_type {
                WireType::Delimited => cursor.delimited()?,
                WireType::GroupStart => cursor.group(number, 0)?,
                WireType::Varint | WireType::Fixed64 | WireType::Fixed32 | WireType::GroupEnd => {
                    return Err(NOT_ITS_OWN);
                }
            };
            found = last_of(inner, rest)?.or(found);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_as_many_bytes_as_it_needs() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = vec![7];
            let mark = open(&mut out);
            out.resize(out.len() + length, 9);
            close(&mut out, mark);
            let mut expected = vec![7];
            put_varint(&mut expected, length as u64);
            expected.resize(expected.len() + length, 9);
            assert!(out == expected, "{length}");
        }
    }

    #[test]
    fn varints_and_zigzag_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Cursor::new(&out).varint(), Ok(value));
            assert_eq!(zigzag(unzigzag(value)), value);
        }
        assert_eq!((zigzag(-1), zigzag(1), zigzag(i64::MIN)), (1, 2, u64::MAX));
        let too_long = [[0xff; 9].as_slice(), &[2]].concat();
        assert!(Cursor::new(&too_long).varint().is_err());
        assert!(Cursor::new(&[0x80; 11]).varint().is_err());
        assert_eq!(Cursor::new(&[0x80]).varint(), Err(TRUNCATED));
    }

    #[test]
    fn what_is_no_message_is_refused_while_it_is_skipped() {
        for (bytes, is_whole) in [
            (&b"\x08\x01"[..], true),
            (b"\x0b\x10\x01\x0c", true),
            (b"\x0b\x10\x01\x14", false),
            (b"\x0b\x10\x01", false),
            (b"\x0a\x05abc", false),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false),
            (b"\x0d\x01\x02\x03", false),
            (b"\x00\x01", false),
            (b"\x0f", false),
            (b"\x0c", false),
        ] {
            let mut cursor = Cursor::new(bytes);
            let skipped = cursor.tag().and_then(|(number, wire_type)| {
                cursor.skip(number, wire_type, 0)?;
                Ok(cursor.is_at_end())
            });
            assert_eq!(skipped == Ok(true), is_whole, "{bytes:x?}");
        }
        let mut cursor = Cursor::new(&[0x0b; 300]);
        assert_eq!(cursor.group(1, 0), Err(TOO_DEEP));
    }
}
