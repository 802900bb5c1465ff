//! One value of a scalar type to wire bytes: also those messages that JSON writes as one string, number or bool.

use crate::lexer::Token;
use crate::names;
use crate::number;
use crate::number::Refused;
use crate::schema::Field;
use crate::schema::Form;
use crate::schema::Kind;
use crate::schema::Message;
use crate::schema::Schema;
use crate::time;
use crate::wire;
use crate::wire::Tag;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use std::borrow::Cow;

/// Padded or not, and whatever the bits are that no byte needs.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Appends a value with its tag; nothing if it is the default and that is left out.
///
/// # Errors
/// The token is no value of the kind; nothing was appended.
#[inline]
pub(crate) fn put(
    schema: &Schema,
    kind: Kind,
    token: &Token<'_>,
    tag: &Tag,
    leaves_out_default: bool,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let value = match kind {
        Kind::String => {
            let Token::Text(text) = token else { return Err(Refused) };
            if !(leaves_out_default && text.is_empty()) {
                tag.put(out);
                wire::put_delimited(out, text.as_bytes());
            }
            return Ok(());
        }
        Kind::Bytes => return put_bytes(token, tag, leaves_out_default, out),
        Kind::Message(_) => return Err(Refused),
        Kind::Int32 => number::signed(digits(token)?, 32)?.cast_unsigned(),
        Kind::Int64 => number::signed(digits(token)?, 64)?.cast_unsigned(),
        Kind::Uint32 => number::unsigned(digits(token)?, 32)?,
        Kind::Uint64 => number::unsigned(digits(token)?, 64)?,
        Kind::Sint32 => wire::zigzag(number::signed(digits(token)?, 32)?),
        Kind::Sint64 => wire::zigzag(number::signed(digits(token)?, 64)?),
        Kind::Enum(id) => i64::from(enum_number(schema, id, token)?).cast_unsigned(),
        Kind::Bool => {
            let Token::Bool(value) = token else { return Err(Refused) };
            u64::from(*value)
        }
        Kind::Fixed32 => number::unsigned(digits(token)?, 32)?,
        Kind::Fixed64 => number::unsigned(digits(token)?, 64)?,
        Kind::Sfixed32 => number::signed(digits(token)?, 32)?.cast_unsigned(),
        Kind::Sfixed64 => number::signed(digits(token)?, 64)?.cast_unsigned(),
        Kind::Float => u64::from(float(token)?.to_bits()),
        Kind::Double => double(token)?.to_bits(),
    };
    if leaves_out_default && value == 0 {
        return Ok(());
    }
    tag.put(out);
    match kind.wire_type() {
        wire::WireType::Fixed32 => out.extend_from_slice(&value.to_le_bytes()[..4]),
        wire::WireType::Fixed64 => out.extend_from_slice(&value.to_le_bytes()),
        wire::WireType::Varint
        | wire::WireType::Delimited
        | wire::WireType::GroupStart
        | wire::WireType::GroupEnd => wire::put_varint(out, value),
    }
    Ok(())
}

/// The key of a map's entry, always with its tag.
pub(super) fn put_key(
    schema: &Schema,
    field: &Field,
    key: &str,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let token = if field.kind == Kind::String {
        Token::Text(Cow::Borrowed(key))
    } else if field.kind == Kind::Bool {
        Token::Bool(key.parse().map_err(|_| Refused)?)
    } else if number::is_key(key) {
        Token::Number(key)
    } else {
        return Err(Refused);
    };
    put(schema, field.kind, &token, &field.tag, false, out)
}

/// The text of a number, in a string or not.
#[inline]
fn digits<'t>(token: &'t Token<'_>) -> Result<&'t str, Refused> {
    match token {
        Token::Number(text) => Ok(text),
        Token::Text(text) => Ok(text),
        Token::Null | Token::Bool(_) | Token::Object | Token::Array => Err(Refused),
    }
}

fn double(token: &Token<'_>) -> Result<f64, Refused> {
    if let Token::Text(text) = token
        && let Some(value) = number::not_finite(text)
    {
        return Ok(value);
    }
    number::double(digits(token)?)
}

fn float(token: &Token<'_>) -> Result<f32, Refused> {
    let text = digits(token)?;
    match (token, number::not_finite(text)) {
        (Token::Text(_), Some(value)) if value.is_nan() => Ok(f32::NAN),
        (Token::Text(_), Some(value)) => {
            Ok(f32::INFINITY.copysign(if value < 0.0 { -1.0 } else { 1.0 }))
        }
        _ => number::float(text),
    }
}

fn enum_number(schema: &Schema, id: usize, token: &Token<'_>) -> Result<i32, Refused> {
    let descriptor = &schema.enums[id];
    match token {
        Token::Text(name) => descriptor.numbers.get(&**name).copied().ok_or(Refused),
        Token::Number(text) => i32::try_from(number::signed(text, 32)?).map_err(|_| Refused),
        Token::Null if descriptor.is_null => Ok(0),
        Token::Null | Token::Bool(_) | Token::Object | Token::Array => Err(Refused),
    }
}

fn put_bytes(
    token: &Token<'_>,
    tag: &Tag,
    leaves_out_default: bool,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let Token::Text(text) = token else { return Err(Refused) };
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let before = out.len();
    tag.put(out);
    let mark = wire::open(out);
    // A refusal may leave some behind: nobody uses what was written once a value was refused.
    engine.decode_vec(text.as_bytes(), out).map_err(|_| Refused)?;
    if leaves_out_default && out.len() == mark + 1 {
        out.truncate(before);
    } else {
        wire::close(out, mark);
    }
    Ok(())
}

/// Appends the content of a message that JSON writes as one string, number or bool.
///
/// # Errors
/// The token is no value of it.
pub(crate) fn put_content(
    schema: &Schema,
    message: &Message,
    token: &Token<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    if message.form == Form::Wrapper {
        let value = message.fields.first().ok_or(Refused)?;
        return put(schema, value.kind, token, &value.tag, true, out);
    }
    let Token::Text(text) = token else { return Err(Refused) };
    match message.form {
        Form::Timestamp => put_time(time::parse_timestamp(text), out),
        Form::Duration => put_time(time::parse_duration(text), out),
        Form::FieldMask => put_mask(text, out),
        Form::Fields | Form::HttpBody | Form::Empty | Form::Any | Form::Wrapper => Err(Refused),
        Form::Struct | Form::Value | Form::ListValue => Err(Refused),
    }
}

/// Both kinds of time have seconds as field 1 and nanoseconds as field 2.
fn put_time(time: Option<(i64, i32)>, out: &mut Vec<u8>) -> Result<(), Refused> {
    let (seconds, nanos) = time.ok_or(Refused)?;
    if seconds != 0 {
        out.push(0x08);
        wire::put_varint(out, seconds.cast_unsigned());
    }
    if nanos != 0 {
        out.push(0x10);
        wire::put_varint(out, i64::from(nanos).cast_unsigned());
    }
    Ok(())
}

fn put_mask(text: &str, out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut path = String::new();
    for camel in text.split(',').filter(|path| !path.is_empty()) {
        path.clear();
        names::put_snake(&mut path, camel).ok_or(Refused)?;
        put_mask_path(&path, out);
    }
    Ok(())
}

/// One path of a FieldMask, by proto names.
pub(crate) fn put_mask_path(path: &str, out: &mut Vec<u8>) {
    out.push(0x0a);
    wire::put_delimited(out, path.as_bytes());
}

/// A token as JSON would have it, of a text without quotes, as paths and queries have it.
pub(crate) fn token_of_text<'t>(schema: &Schema, kind: Kind, text: &'t str) -> Token<'t> {
    let as_text = Token::Text(Cow::Borrowed(text));
    if kind == Kind::Bool {
        return text.parse().map_or(as_text, Token::Bool);
    }
    if matches!(kind, Kind::Enum(_)) && number::signed(text, 32).is_ok() {
        return Token::Number(text);
    }
    let message = kind.message_id().map(|id| &schema.messages[id]);
    match message.filter(|message| message.form == Form::Wrapper) {
        Some(wrapper) => {
            wrapper.fields.first().map_or(as_text, |value| token_of_text(schema, value.kind, text))
        }
        None => as_text,
    }
}

/// What a value of the kind is called in an error.
pub(crate) fn noun(schema: &Schema, kind: Kind) -> Cow<'static, str> {
    if let Kind::Enum(id) = kind {
        return format!("one of {}", schema.enums[id].told).into();
    }
    if let Kind::Message(id) = kind {
        return noun_of_message(schema, &schema.messages[id]);
    }
    for (plain, noun) in
        [(Kind::Bool, "`true` or `false`"), (Kind::String, "text"), (Kind::Bytes, "base64")]
    {
        if kind == plain {
            return noun.into();
        }
    }
    format!("a number of type {}", format!("{kind:?}").to_lowercase()).into()
}

pub(crate) fn noun_of_message(schema: &Schema, message: &Message) -> Cow<'static, str> {
    match (message.form, message.fields.first()) {
        (Form::Timestamp, _) => "a time such as `2026-01-31T10:00:00Z`".into(),
        (Form::Duration, _) => "a duration such as `1.5s`".into(),
        (Form::FieldMask, _) => "field names in camelCase, joined by commas".into(),
        (Form::Wrapper, Some(value)) => noun(schema, value.kind),
        _ => format!("a {}", message.name).into(),
    }
}
