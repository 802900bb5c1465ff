//! Whether bytes are a message, without making anything of them.

use crate::schema::Kind;
use crate::schema::MessageId;
use crate::schema::MessageType;
use crate::schema::Schema;
use crate::wire;
use crate::wire::Broken;
use crate::wire::Cursor;
use crate::wire::WireType;

impl Schema {
    /// Whether bytes are such a message: well-formed, of the fields' types all the way down, with text that is UTF-8.
    #[must_use]
    pub fn is_message(&self, message: MessageType, wire: &[u8]) -> bool {
        check(self, message.0, wire, 0).is_ok()
    }
}

fn check(schema: &Schema, id: MessageId, wire: &[u8], depth: usize) -> Result<(), Broken> {
    if depth == wire::DEPTH_MAX {
        return Err(wire::TOO_DEEP);
    }
    let message = &schema.messages[id];
    let mut cursor = Cursor::new(wire);
    while !cursor.is_at_end() {
        let (number, wire_type) = cursor.tag()?;
        let Some(index) = message.index_by_number(number) else {
            cursor.skip(number, wire_type, depth)?;
            continue;
        };
        let field = &message.fields[index];
        if !field.takes(wire_type) {
            return Err(wire::NOT_ITS_OWN);
        }
        match field.kind {
            Kind::Message(inner) if wire_type == WireType::GroupStart => {
                check(schema, inner, cursor.group(number, depth)?, depth + 1)?;
            }
            Kind::Message(inner) => check(schema, inner, cursor.delimited()?, depth + 1)?,
            Kind::String => {
                let text = cursor.delimited()?;
                std::str::from_utf8(text).map_err(|_| wire::NOT_UTF8)?;
            }
            kind if wire_type == WireType::Delimited && kind.is_packable() => {
                let mut values = Cursor::new(cursor.delimited()?);
                while !values.is_at_end() {
                    values.skip(number, kind.wire_type(), depth)?;
                }
            }
            _ => cursor.skip(number, wire_type, depth)?,
        }
    }
    Ok(())
}
