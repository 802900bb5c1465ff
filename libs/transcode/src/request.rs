//! A request to the method's message: path, then body, then query; what the path binds stays as it is.

use crate::json;
use crate::mask;
use crate::query;
use crate::route::Body;
use crate::route::PathField;
use crate::table::Match;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Value;

/// What a request holds beside its path.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestParts<'a> {
    /// What follows the `?`, as received.
    pub query: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The whole body; the caller bounds its length.
    pub body: &'a [u8],
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, by proto names: `link.tags[3]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Why a request makes no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// Fields are unknown, doubled, bound elsewhere or not of their type; at least one.
    #[error("{}", describe(.0))]
    Invalid(Vec<Violation>),
    /// The body is no JSON.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// The body is of a media type that is not read: HTTP 415.
    #[error("the body must be application/json, in UTF-8")]
    MediaType,
}

fn describe(violations: &[Violation]) -> String {
    let texts = violations
        .iter()
        .map(|violation| format!("`{}` {}", violation.field, violation.description));
    texts.collect::<Vec<_>>().join("; ")
}

impl TranscodeError {
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }
}

impl Match<'_> {
    /// Makes the method's request message, encoded.
    ///
    /// # Errors
    /// Anything that the message has no place for: nothing that was sent is ignored.
    pub fn request(&self, parts: RequestParts<'_>) -> Result<Bytes, TranscodeError> {
        let input = self.route.method.input();
        let body = read_body(&self.route.body, parts)?;
        let mut message = match (&self.route.body, &body) {
            (Body::Whole, Some(json)) => json::message(&input, json, "")?,
            (Body::Field(field), Some(json)) => json::field(field, json.clone(), field.name())?,
            (Body::None | Body::Whole | Body::Field(_), _) => DynamicMessage::new(input),
        };
        for (bound, raw) in self.route.path_fields.iter().zip(&self.raw_values) {
            bind_path(&mut message, bound, raw)?;
        }
        query::bind(&mut message, self, parts.query.unwrap_or_default())?;
        if let (Some(mask_field), Body::Field(field), Some(json)) =
            (&self.route.mask, &self.route.body, &body)
            && !message.has_field(mask_field)
        {
            let paths = mask::of_body(field, json, &self.route.path_fields);
            mask::set(&mut message, mask_field, paths);
        }
        Ok(message.encode_to_vec().into())
    }
}

fn read_body(
    body: &Body,
    parts: RequestParts<'_>,
) -> Result<Option<serde_json::Value>, TranscodeError> {
    if parts.body.is_empty() {
        return Ok(None);
    }
    if matches!(body, Body::None) {
        return Err(TranscodeError::field("body", "must be empty: the method takes none"));
    }
    if !is_json(parts.content_type) {
        return Err(TranscodeError::MediaType);
    }
    json::parse(parts.body).map(Some)
}

/// `application/json` or any `+json`; anything else would let a page of another site send "simple" requests.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            Some(_) | None => true,
        })
}

fn bind_path(
    message: &mut DynamicMessage,
    bound: &PathField,
    raw: &str,
) -> Result<(), TranscodeError> {
    let (leaf, parents) = bound.fields.split_last().expect("a path field has a leaf");
    let name = path_name(&bound.fields);
    let text = decode(raw, bound.is_multi_segment)
        .ok_or_else(|| TranscodeError::field(name.as_str(), "must be percent-encoded UTF-8"))?;
    let value = query::scalar(leaf, &text, &name)?;
    let owner = descend(message, parents);
    if owner.has_field(leaf) && *owner.get_field(leaf) != value {
        let description = "is set by the path; the body must not have another value";
        return Err(TranscodeError::field(name, description));
    }
    owner.set_field(leaf, value);
    Ok(())
}

/// The proto names of a field path, joined by dots.
pub(crate) fn path_name(fields: &[FieldDescriptor]) -> String {
    fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
}

/// The message that holds the last field of a path, made where it is missing.
pub(crate) fn descend<'m>(
    message: &'m mut DynamicMessage,
    parents: &[FieldDescriptor],
) -> &'m mut DynamicMessage {
    let mut current = message;
    for parent in parents {
        if !current.has_field(parent) {
            let kind = parent.kind();
            let descriptor = kind.as_message().expect("checked when the path was resolved");
            current.set_field(parent, Value::Message(DynamicMessage::new(descriptor.clone())));
        }
        current = current
            .get_field_mut(parent)
            .as_message_mut()
            .expect("checked when the path was resolved");
    }
    current
}

/// Percent-decodes; across segments `%2F` stays as received, so that it can't make another segment.
fn decode(raw: &str, keeps_slashes_encoded: bool) -> Option<String> {
    if !is_well_encoded(raw) {
        return None;
    }
    if !keeps_slashes_encoded {
        return percent_decode_str(raw).decode_utf8().ok().map(Into::into);
    }
    let mut text = String::new();
    let mut rest = raw;
    while let Some(at) = rest.to_ascii_lowercase().find("%2f") {
        text += &percent_decode_str(&rest[..at]).decode_utf8().ok()?;
        text += &rest[at..at + 3];
        rest = &rest[at + 3..];
    }
    text += &percent_decode_str(rest).decode_utf8().ok()?;
    Some(text)
}

/// Whether every `%` begins an escape.
pub(crate) fn is_well_encoded(raw: &str) -> bool {
    raw.split('%').skip(1).all(|after| {
        after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_stay_encoded_across_segments_only() {
        let cases = [
            ("a%2Fb", false, Some("a/b")),
            ("a%2Fb/c%20d%2fe", true, Some("a%2Fb/c d%2fe")),
            ("a+b", false, Some("a+b")),
            ("%C3%A9", true, Some("é")),
            ("%FF", false, None),
            ("%zz", false, None),
            ("%2", true, None),
        ];
        for (raw, keeps, text) in cases {
            assert_eq!(decode(raw, keeps).as_deref(), text, "{raw}");
        }
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        for (content_type, is_read) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/merge-patch+json", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(Some(content_type)), is_read, "{content_type}");
        }
        assert!(!is_json(None));
    }
}
