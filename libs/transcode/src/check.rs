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
        if let Some(inner) = field.kind.message_id() {
            let content = if wire_type == WireType::GroupStart {
                cursor.group(number, depth)?
            } else {
                cursor.delimited()?
            };
            check(schema, inner, content, depth + 1)?;
        } else if field.kind == Kind::String {
            std::str::from_utf8(cursor.delimited()?).map_err(|_| wire::NOT_UTF8)?;
        } else if wire_type == WireType::Delimited && field.kind.is_packable() {
            let mut values = Cursor::new(cursor.delimited()?);
            while !values.is_at_end() {
                values.skip(number, field.kind.wire_type(), depth)?;
            }
        } else {
            cursor.skip(number, wire_type, depth)?;
        }
    }
    Ok(())
}
