//! Wire bytes to JSON, field by field from the tables, without a message in between.
//!
//! A message is passed over once to learn where each field is, and then written in the order of its fields' numbers. So the
//! last of a scalar's values counts, and a message that comes in pieces is what the pieces are together: wire bytes merge by
//! standing behind each other. Maps are sorted by key: the same message is always the same text.

mod index;
mod scalar;
mod special;
pub(crate) mod text;

use crate::error::JsonError;
use crate::schema::Field;
use crate::schema::Form;
use crate::schema::Kind;
use crate::schema::Message;
use crate::schema::MessageId;
use crate::schema::MessageType;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::wire;
use crate::wire::Broken;
use crate::wire::Cursor;
use crate::wire::WireType;
use index::Slot;
use scalar::Key;
use std::borrow::Cow;

/// How JSON is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Whether fields without presence are written when they have their default value: a count of 0, say.
    pub emits_defaults: bool,
    /// Whether fields are called as in the proto, instead of in camelCase.
    pub uses_proto_names: bool,
    /// Whether enum values are written as numbers.
    pub uses_enum_numbers: bool,
    /// Whether there are line breaks and two spaces for each level.
    pub is_pretty: bool,
    /// Whether an Any whose type is not known is written with its bytes in base64 as `value`, instead of being an error.
    pub keeps_unknown_any: bool,
}

impl Schema {
    /// Appends a message as one JSON value to `out`. On an error, what was appended is of no use.
    ///
    /// # Errors
    /// The bytes are no such message, nest deeper than 100, or hold what has no JSON: text that is not UTF-8, a time out of
    /// its range, an Any of an unknown type.
    pub fn to_json(
        &self,
        message: MessageType,
        wire: &[u8],
        options: WriteOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        self.write(message, wire, options, out, |writer| writer.content(message.0, wire))
    }

    /// Appends the value of one field of a message, its default if it is not there.
    pub(crate) fn field_to_json(
        &self,
        message: MessageType,
        field: usize,
        wire: &[u8],
        options: WriteOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        self.write(message, wire, options, out, |writer| {
            let descriptor = &writer.schema.messages[message.0];
            let base = writer.scan(descriptor, wire)?;
            let slot = writer.slots[base + field];
            writer.field_value(&descriptor.fields[field], wire, slot)
        })
    }

    fn write<'s, 'o>(
        &'s self,
        message: MessageType,
        wire: &[u8],
        options: WriteOptions,
        out: &'o mut Vec<u8>,
        write: impl FnOnce(&mut Writer<'s, 'o>) -> Result<(), Broken>,
    ) -> Result<(), JsonError> {
        let mut writer =
            Writer { schema: self, options, out, slots: Vec::new(), depth: 0, indent: 0 };
        let outcome = if wire.len() > wire::BYTES_MAX {
            Err(Broken("it is longer than 2 GiB"))
        } else {
            write(&mut writer)
        };
        outcome.map_err(|Broken(why)| JsonError {
            message: self.messages[message.0].name.clone(),
            why: why.to_owned(),
        })
    }
}

struct Writer<'s, 'o> {
    schema: &'s Schema,
    options: WriteOptions,
    out: &'o mut Vec<u8>,
    /// Where the fields of the messages are that are being written, the innermost last.
    slots: Vec<Slot>,
    /// How many messages are being written.
    depth: usize,
    /// How many objects and arrays.
    indent: usize,
}

impl<'s> Writer<'s, '_> {
    /// Writes a message, given its bytes without tag and length.
    fn content(&mut self, id: MessageId, wire: &[u8]) -> Result<(), Broken> {
        if self.depth == wire::DEPTH_MAX {
            return Err(wire::TOO_DEEP);
        }
        self.depth += 1;
        let message = &self.schema.messages[id];
        match message.form {
            Form::Fields | Form::HttpBody | Form::Empty => {
                self.open(b'{');
                let mut is_first = true;
                self.fields(message, wire, &mut is_first)?;
                self.close(b'}', is_first);
            }
            Form::Timestamp | Form::Duration => self.time(message, wire)?,
            Form::FieldMask => self.mask(wire)?,
            Form::Wrapper => self.first_field(message, wire)?,
            Form::Struct | Form::ListValue => self.first_field(message, wire)?,
            Form::Value => self.value(message, wire)?,
            Form::Any => self.any(wire)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// Writes a message's fields as entries of an object that is open.
    fn fields(
        &mut self,
        message: &'s Message,
        wire: &[u8],
        is_first: &mut bool,
    ) -> Result<(), Broken> {
        let base = self.scan(message, wire)?;
        for (index, field) in message.fields.iter().enumerate() {
            let slot = self.slots[base + index];
            // What has no presence is not there when it has its default value, though it may stand in the bytes.
            let is_there = slot.count > 0
                && (field.has_presence
                    || field.shape != Shape::One
                    || !scalar::is_default(field, wire, slot));
            if is_there || self.options.emits_defaults && !field.has_presence {
                let key = if self.options.uses_proto_names { &field.key } else { &field.json_key };
                self.next(is_first);
                self.out.extend_from_slice(key);
                self.space();
                self.field_value(field, wire, slot)?;
            }
        }
        self.slots.truncate(base);
        Ok(())
    }

    /// Writes what a field has; its default if it is not there.
    fn field_value(&mut self, field: &'s Field, wire: &[u8], slot: Slot) -> Result<(), Broken> {
        match field.shape {
            Shape::One => self.single(field, wire, slot),
            Shape::Many => self.list(field, wire, slot),
            Shape::Map => self.map(field, wire, slot),
        }
    }

    fn single(&mut self, field: &'s Field, wire: &[u8], slot: Slot) -> Result<(), Broken> {
        if let Some(id) = field.kind.message_id() {
            let content = gather(field, wire, slot)?;
            return self.content(id, &content);
        }
        if slot.count == 0 {
            return self.default_scalar(field.kind);
        }
        let mut cursor = Cursor { bytes: wire, at: slot.last as usize };
        self.scalar(field.kind, &mut cursor)
    }

    fn list(&mut self, field: &'s Field, wire: &[u8], slot: Slot) -> Result<(), Broken> {
        self.open(b'[');
        let mut is_first = true;
        let mut occurrences = Occurrences::of(field, wire, slot);
        while let Some((wire_type, mut cursor)) = occurrences.next()? {
            let is_packed = wire_type == WireType::Delimited && field.kind.is_packable();
            if let (Kind::Message(id), false) = (field.kind, is_packed) {
                let content = content_at(field, wire_type, &mut cursor)?;
                self.next(&mut is_first);
                self.content(id, content)?;
            } else if is_packed {
                let mut values = Cursor::new(cursor.delimited()?);
                while !values.is_at_end() {
                    self.next(&mut is_first);
                    self.scalar(field.kind, &mut values)?;
                }
            } else {
                self.next(&mut is_first);
                self.scalar(field.kind, &mut cursor)?;
            }
        }
        self.close(b']', is_first);
        Ok(())
    }

    fn map(&mut self, field: &'s Field, wire: &[u8], slot: Slot) -> Result<(), Broken> {
        let Kind::Message(entry) = field.kind else { return Err(Broken("a map has no entries")) };
        let message = &self.schema.messages[entry];
        let [key_field, value_field] = message.fields.as_slice() else {
            return Err(Broken("a map has no entries"));
        };
        let mut entries: Vec<(Key<'_>, &[u8], Slot)> = Vec::with_capacity(slot.count as usize);
        let mut occurrences = Occurrences::of(field, wire, slot);
        while let Some((_, mut cursor)) = occurrences.next()? {
            let content = cursor.delimited()?;
            let base = self.scan(message, content)?;
            let (key, value) = (self.slots[base], self.slots[base + 1]);
            self.slots.truncate(base);
            entries.push((Key::read(key_field.kind, content, key)?, content, value));
        }
        // A stable sort: of equal keys the last stays the last, and counts.
        if !entries.is_sorted_by(|(a, ..), (b, ..)| a < b) {
            entries.sort_by_key(|(key, ..)| *key);
            entries.dedup_by(|later, kept| {
                let is_same = later.0 == kept.0;
                if is_same {
                    std::mem::swap(later, kept);
                }
                is_same
            });
        }
        self.open(b'{');
        let mut is_first = true;
        for (key, content, value) in entries {
            self.next(&mut is_first);
            key.put(self.out);
            self.out.push(b':');
            self.space();
            self.single(value_field, content, value)?;
        }
        self.close(b'}', is_first);
        Ok(())
    }

    /// The one field of a wrapper, a Struct or a ListValue, in place of an object with it.
    fn first_field(&mut self, message: &'s Message, wire: &[u8]) -> Result<(), Broken> {
        let field = message.fields.first().ok_or(Broken("a well-known type is another"))?;
        let base = self.scan(message, wire)?;
        let slot = self.slots[base];
        self.slots.truncate(base);
        self.field_value(field, wire, slot)
    }

    fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.indent += 1;
    }

    fn close(&mut self, bracket: u8, is_empty: bool) {
        self.indent -= 1;
        if self.options.is_pretty && !is_empty {
            self.line();
        }
        self.out.push(bracket);
    }

    /// Before an entry or an item.
    #[inline]
    fn next(&mut self, is_first: &mut bool) {
        if !*is_first {
            self.out.push(b',');
        }
        *is_first = false;
        if self.options.is_pretty {
            self.line();
        }
    }

    #[inline]
    fn space(&mut self) {
        if self.options.is_pretty {
            self.out.push(b' ');
        }
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.indent, b' ');
    }
}

/// The bytes of a message field's value: mostly where they are, otherwise all its pieces in one.
fn gather<'w>(field: &Field, wire: &'w [u8], slot: Slot) -> Result<Cow<'w, [u8]>, Broken> {
    let mut occurrences = Occurrences::of(field, wire, slot);
    let Some((wire_type, mut cursor)) = occurrences.next()? else {
        return Ok(Cow::Borrowed(&[]));
    };
    let first = content_at(field, wire_type, &mut cursor)?;
    if slot.count == 1 {
        return Ok(Cow::Borrowed(first));
    }
    let mut all = first.to_vec();
    while let Some((wire_type, mut cursor)) = occurrences.next()? {
        all.extend_from_slice(content_at(field, wire_type, &mut cursor)?);
    }
    Ok(Cow::Owned(all))
}

fn content_at<'w>(
    field: &Field,
    wire_type: WireType,
    cursor: &mut Cursor<'w>,
) -> Result<&'w [u8], Broken> {
    if wire_type == WireType::GroupStart {
        return cursor.group(field.number, 0);
    }
    cursor.delimited()
}

/// Each place where a field's value is, in the order of the bytes.
struct Occurrences<'w> {
    cursor: Cursor<'w>,
    number: u32,
    left: u32,
}

impl<'w> Occurrences<'w> {
    fn of(field: &Field, wire: &'w [u8], slot: Slot) -> Self {
        let cursor = Cursor { bytes: wire, at: slot.first as usize };
        Self { cursor, number: field.number, left: slot.count }
    }

    /// The layout of the next value, and a cursor before it.
    #[inline]
    fn next(&mut self) -> Result<Option<(WireType, Cursor<'w>)>, Broken> {
        while self.left > 0 {
            let (number, wire_type) = self.cursor.tag()?;
            let value = self.cursor;
            self.cursor.skip(number, wire_type, 0)?;
            if number == self.number {
                self.left -= 1;
                return Ok(Some((wire_type, value)));
            }
        }
        Ok(None)
    }
}
