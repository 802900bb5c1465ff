//! One scalar value from wire bytes to JSON, and the keys of maps.

use super::Writer;
use super::index::Slot;
use super::text;
use crate::schema::Field;
use crate::schema::Kind;
use crate::wire;
use crate::wire::Broken;
use crate::wire::Cursor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

impl Writer<'_, '_> {
    /// Writes the value that the cursor stands before.
    #[inline]
    pub(super) fn scalar(&mut self, kind: Kind, cursor: &mut Cursor<'_>) -> Result<(), Broken> {
        match kind {
            Kind::String => {
                let bytes = cursor.delimited()?;
                text::put_bytes_as_string(self.out, bytes).ok_or(wire::NOT_UTF8)?;
            }
            Kind::Bytes => self.base64(cursor.delimited()?),
            Kind::Message(_) => return Err(Broken("a message stands where a scalar should")),
            Kind::Double => self.double(f64::from_bits(cursor.fixed64()?)),
            Kind::Float => self.float(f32::from_bits(cursor.fixed32()?)),
            Kind::Int32 => self.number(low_signed(cursor.varint()?)),
            Kind::Uint32 => self.number(low(cursor.varint()?)),
            Kind::Sint32 => {
                let value = wire::unzigzag(cursor.varint()? & LOW);
                self.number(low_signed(value.cast_unsigned()));
            }
            Kind::Fixed32 => self.number(cursor.fixed32()?),
            Kind::Sfixed32 => self.number(cursor.fixed32()?.cast_signed()),
            Kind::Int64 => self.quoted(cursor.varint()?.cast_signed()),
            Kind::Uint64 => self.quoted(cursor.varint()?),
            Kind::Sint64 => self.quoted(wire::unzigzag(cursor.varint()?)),
            Kind::Fixed64 => self.quoted(cursor.fixed64()?),
            Kind::Sfixed64 => self.quoted(cursor.fixed64()?.cast_signed()),
            Kind::Bool => self.word(if cursor.varint()? == 0 { "false" } else { "true" }),
            Kind::Enum(id) => {
                let number = low_signed(cursor.varint()?);
                self.enum_value(id, number);
            }
        }
        Ok(())
    }

    /// What a scalar has that is not there.
    pub(super) fn default_scalar(&mut self, kind: Kind) -> Result<(), Broken> {
        // Zero is the default of each type: an empty text, a number, or `false`.
        self.scalar(kind, &mut Cursor::new(&[0; 8]))
    }

    fn enum_value(&mut self, id: usize, number: i32) {
        let descriptor = &self.schema.enums[id];
        if descriptor.is_null {
            return self.word("null");
        }
        match descriptor.name_of(number) {
            Some(name) if !self.options.uses_enum_numbers => text::put_string(self.out, name),
            Some(_) | None => self.number(number),
        }
    }

    fn word(&mut self, word: &str) {
        self.out.extend_from_slice(word.as_bytes());
    }

    fn number(&mut self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// 64-bit integers are text in JSON: its readers have doubles.
    fn quoted(&mut self, value: impl itoa::Integer) {
        self.out.push(b'"');
        self.number(value);
        self.out.push(b'"');
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.word(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(value);
        }
    }

    fn float(&mut self, value: f32) {
        if value.is_finite() {
            self.word(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(f64::from(value));
        }
    }

    fn not_finite(&mut self, value: f64) {
        self.word(match value {
            _ if value.is_nan() => "\"NaN\"",
            _ if value > 0.0 => "\"Infinity\"",
            _ => "\"-Infinity\"",
        });
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        let length = bytes.len().div_ceil(3) * 4;
        self.out.resize(start + length, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
        debug_assert_eq!(written, Ok(length), "four characters for three bytes");
        self.out.push(b'"');
    }
}

const LOW: u64 = u32::MAX as u64;

/// A 32-bit value may come with more bits, which do not count.
fn low(value: u64) -> u32 {
    u32::try_from(value & LOW).expect("the high bits are cut off")
}

fn low_signed(value: u64) -> i32 {
    low(value).cast_signed()
}

/// Whether a scalar that is there has the value of one that is not.
#[inline]
pub(super) fn is_default(field: &Field, wire: &[u8], slot: Slot) -> bool {
    let rest = wire.get(slot.last as usize..).unwrap_or_default();
    match field.kind.wire_type() {
        wire::WireType::Fixed32 => rest.starts_with(&[0; 4]),
        wire::WireType::Fixed64 => rest.starts_with(&[0; 8]),
        wire::WireType::Varint if field.kind.is_32_bits() => {
            Cursor::new(rest).varint().is_ok_and(|value| value & LOW == 0)
        }
        wire::WireType::Varint
        | wire::WireType::Delimited
        | wire::WireType::GroupStart
        | wire::WireType::GroupEnd => Cursor::new(rest).varint() == Ok(0),
    }
}

/// The key of a map's entry, in the order in which entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'w> {
    Text(&'w str),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
}

impl<'w> Key<'w> {
    pub(super) fn read(kind: Kind, entry: &'w [u8], slot: Slot) -> Result<Self, Broken> {
        let is_there = slot.count > 0;
        let mut cursor = if is_there {
            Cursor { bytes: entry, at: slot.last as usize }
        } else {
            Cursor::new(&[0; 8])
        };
        Ok(match kind {
            Kind::String => {
                Self::Text(std::str::from_utf8(cursor.delimited()?).map_err(|_| wire::NOT_UTF8)?)
            }
            Kind::Bool => Self::Bool(cursor.varint()? != 0),
            Kind::Int32 => Self::Signed(low_signed(cursor.varint()?).into()),
            Kind::Int64 => Self::Signed(cursor.varint()?.cast_signed()),
            Kind::Sint32 => {
                let value = wire::unzigzag(cursor.varint()? & LOW);
                Self::Signed(low_signed(value.cast_unsigned()).into())
            }
            Kind::Sint64 => Self::Signed(wire::unzigzag(cursor.varint()?)),
            Kind::Sfixed32 => Self::Signed(cursor.fixed32()?.cast_signed().into()),
            Kind::Sfixed64 => Self::Signed(cursor.fixed64()?.cast_signed()),
            Kind::Uint32 => Self::Unsigned(low(cursor.varint()?).into()),
            Kind::Uint64 => Self::Unsigned(cursor.varint()?),
            Kind::Fixed32 => Self::Unsigned(cursor.fixed32()?.into()),
            Kind::Fixed64 => Self::Unsigned(cursor.fixed64()?),
            Kind::Double | Kind::Float | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => {
                return Err(Broken("a map has keys that none may have"));
            }
        })
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let text = match self {
            Self::Text(text) => return text::put_string(out, text),
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Signed(value) => digits.format(value),
            Self::Unsigned(value) => digits.format(value),
        };
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}
