//! The messages whose JSON is not an object of their fields.

use super::Writer;
use super::text;
use crate::names;
use crate::schema::Form;
use crate::schema::Message;
use crate::time;
use crate::wire;
use crate::wire::Broken;
use crate::wire::Cursor;
use crate::wire::WireType;

impl<'s> Writer<'s, '_> {
    /// A Timestamp or a Duration: both have seconds as field 1 and nanoseconds as field 2.
    pub(super) fn time(&mut self, message: &Message, bytes: &[u8]) -> Result<(), Broken> {
        let (mut seconds, mut nanos) = (0, 0_i32);
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                (1, WireType::Varint) => seconds = cursor.varint()?.cast_signed(),
                (2, WireType::Varint) => {
                    let low = cursor.varint()? & u64::from(u32::MAX);
                    nanos = u32::try_from(low).expect("the high bits are cut off").cast_signed();
                }
                (1 | 2, _) => return Err(wire::NOT_ITS_OWN),
                (number, wire_type) => cursor.skip(number, wire_type, self.depth)?,
            }
        }
        self.out.push(b'"');
        let put = if message.form == Form::Timestamp {
            time::put_timestamp(self.out, seconds, nanos)
        } else {
            time::put_duration(self.out, seconds, nanos)
        };
        put.map_err(Broken)?;
        self.out.push(b'"');
        Ok(())
    }

    /// A FieldMask: its paths, in field 1.
    pub(super) fn mask(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut all = String::new();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                (1, WireType::Delimited) => {
                    let path = std::str::from_utf8(cursor.delimited()?);
                    if !all.is_empty() {
                        all.push(',');
                    }
                    let path = path.map_err(|_| wire::NOT_UTF8)?;
                    names::put_camel(&mut all, path)
                        .ok_or(Broken("a field mask has a name that can't be in camelCase"))?;
                }
                (1, _) => return Err(wire::NOT_ITS_OWN),
                (number, wire_type) => cursor.skip(number, wire_type, self.depth)?,
            }
        }
        text::put_string(self.out, &all);
        Ok(())
    }

    /// A Value: null, a number, a string, a bool, a Struct or a ListValue, in fields 1 to 6.
    pub(super) fn value(&mut self, message: &'s Message, bytes: &[u8]) -> Result<(), Broken> {
        let base = self.scan(message, bytes)?;
        let set = self.slots[base..].iter().position(|slot| slot.count > 0);
        let found = set.map(|index| (&message.fields[index], self.slots[base + index]));
        self.slots.truncate(base);
        let Some((field, slot)) = found else {
            self.out.extend_from_slice(b"null");
            return Ok(());
        };
        if field.number == 2 {
            let value = Cursor { bytes, at: slot.last as usize }.fixed64()?;
            if !f64::from_bits(value).is_finite() {
                return Err(Broken("a google.protobuf.Value is no finite number"));
            }
        }
        self.field_value(field, bytes, slot)
    }

    /// An Any: what field 2 holds, by the type whose URL field 1 is.
    pub(super) fn any(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let (mut url, mut value): (&[u8], &[u8]) = (&[], &[]);
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                (1, WireType::Delimited) => url = cursor.delimited()?,
                (2, WireType::Delimited) => value = cursor.delimited()?,
                (1 | 2, _) => return Err(wire::NOT_ITS_OWN),
                (number, wire_type) => cursor.skip(number, wire_type, self.depth)?,
            }
        }
        let url = std::str::from_utf8(url).map_err(|_| wire::NOT_UTF8)?;
        self.open(b'{');
        if url.is_empty() && value.is_empty() {
            self.close(b'}', true);
            return Ok(());
        }
        let mut is_first = true;
        self.entry(&mut is_first, "@type");
        text::put_string(self.out, url);
        let schema = self.schema;
        let name = url.rsplit_once('/').map(|(_, name)| name);
        match name.and_then(|name| schema.message(name)) {
            Some(id) if schema.messages[id.0].form.has_fields() => {
                self.fields(&schema.messages[id.0], value, &mut is_first)?;
            }
            Some(id) => {
                self.entry(&mut is_first, "value");
                self.content(id.0, value)?;
            }
            None if self.options.keeps_unknown_any => {
                self.entry(&mut is_first, "value");
                self.base64(value);
            }
            None => return Err(Broken("a google.protobuf.Any is of a type that is not known")),
        }
        self.close(b'}', false);
        Ok(())
    }

    fn entry(&mut self, is_first: &mut bool, key: &str) {
        self.next(is_first);
        text::put_string(self.out, key);
        self.out.push(b':');
        self.space();
    }
}
