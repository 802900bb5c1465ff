//! What `google.api.field_behavior` calls REQUIRED has to be there (AIP-203).

use crate::error::TranscodeError;
use crate::error::VIOLATIONS_MAX;
use crate::error::Violation;
use crate::route::Body;
use crate::route::Route;
use crate::schema::Kind;
use crate::schema::MessageId;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::to_wire::Path;
use crate::wire;
use crate::wire::Cursor;
use crate::wire::WireType;
use std::borrow::Cow;

/// Refuses a request without them. Of the resource that a PATCH changes only a part is sent, so within it nothing is asked for.
pub(crate) fn check(route: &Route, request: &[u8]) -> Result<(), TranscodeError> {
    let partial = match route.body {
        Body::Field(index) if route.http_method == Some(http::Method::PATCH) => Some(index),
        Body::Field(_) | Body::Whole | Body::None => None,
    };
    let mut violations = Vec::new();
    visit(&route.schema, route.input.0, request, partial, &Path::Root, 0, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    if violations.is_empty() { Ok(()) } else { Err(TranscodeError::Invalid(violations)) }
}

fn visit(
    schema: &Schema,
    id: MessageId,
    bytes: &[u8],
    partial: Option<usize>,
    path: &Path<'_>,
    depth: usize,
    violations: &mut Vec<Violation>,
) {
    let message = &schema.messages[id];
    if depth == wire::DEPTH_MAX || !message.has_required {
        return;
    }
    for (index, field) in message.fields.iter().enumerate() {
        let path = Path::Field(path, &field.name);
        let values = values_of(bytes, field.number);
        if values.is_empty() && field.behavior.is_required {
            let description = "is required".to_owned();
            violations.push(Violation { field: path.to_string(), description });
        }
        let Kind::Message(inner) = field.kind else { continue };
        if field.shape == Shape::Map || partial == Some(index) || values.is_empty() {
            continue;
        }
        if field.shape == Shape::One {
            // A message may come in pieces, of which none has to be whole.
            let whole = match values.as_slice() {
                [one] => Cow::Borrowed(*one),
                pieces => Cow::Owned(pieces.concat()),
            };
            visit(schema, inner, &whole, None, &path, depth + 1, violations);
        } else {
            for (index, value) in values.iter().enumerate() {
                let path = Path::Index(&path, index);
                visit(schema, inner, value, None, &path, depth + 1, violations);
            }
        }
    }
}

/// The values of a field, without tag and length. The bytes were written by this crate: they are a message.
fn values_of(bytes: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut values = Vec::new();
    let mut cursor = Cursor::new(bytes);
    while let Ok((number, wire_type)) = cursor.tag() {
        let start = cursor.at;
        let value = match wire_type {
            WireType::Delimited => cursor.delimited(),
            WireType::GroupStart => cursor.group(number, 0),
            WireType::Varint | WireType::Fixed64 | WireType::Fixed32 | WireType::GroupEnd => {
                cursor.skip(number, wire_type, 0).map(|()| &bytes[start..cursor.at])
            }
        };
        let Ok(value) = value else { break };
        if number == wanted {
            values.push(value);
        }
    }
    values
}
