//! A request to the method's message: body, then path, then query, each appended to the wire bytes of those before; what the
//! path binds stays as it is.

use crate::error::TranscodeError;
use crate::error::short;
use crate::mask;
use crate::path::FieldPath;
use crate::query;
use crate::required;
use crate::route::Body;
use crate::route::PathField;
use crate::schema::Kind;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::table::Match;
use crate::to_wire::scalar;
use crate::wire;
use bytes::Bytes;
use percent_encoding::percent_decode_str;

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

// Fields of `google.api.HttpBody`, with their wire type.
const CONTENT_TYPE: u8 = 0x0a;
const DATA: u8 = 0x12;

impl Match {
    /// Makes the method's request message, encoded; of a method whose client streams, the first message of the stream.
    ///
    /// # Errors
    /// Anything that the message has no place for: nothing that was sent is ignored.
    pub fn request(&self, parts: RequestParts<'_>) -> Result<Bytes, TranscodeError> {
        let mut out = Vec::with_capacity(parts.body.len() + 64);
        self.put(parts, &mut out)?;
        if self.route.options.requires_required {
            required::check(&self.route, &out)?;
        }
        Ok(out.into())
    }

    pub(crate) fn put(
        &self,
        parts: RequestParts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        self.check_body(parts)?;
        self.put_body(parts, out)?;
        for (bound, raw) in self.route.path_fields.iter().zip(&self.raw_values) {
            let leaf = self.path_leaf(bound, raw)?;
            self.refuse_other(bound, &leaf, !parts.body.is_empty(), out)?;
            refuse_rival(&self.route.schema, &bound.path, &bound.name, out)?;
            put_leaf(&self.route.schema, &bound.path, &leaf, out);
        }
        query::put(self, parts.query.unwrap_or_default(), out)?;
        self.put_mask(parts.body, out)
    }

    /// A message of a client's stream behind the first: path and query are in that one.
    pub(crate) fn put_further(
        &self,
        parts: RequestParts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        self.check_body(parts)?;
        self.put_body(parts, out)?;
        for (bound, raw) in self.route.path_fields.iter().zip(&self.raw_values) {
            let leaf = self.path_leaf(bound, raw)?;
            self.refuse_other(bound, &leaf, !parts.body.is_empty(), out)?;
        }
        self.put_mask(parts.body, out)
    }

    /// Refuses a body that the method has no place for.
    fn check_body(&self, parts: RequestParts<'_>) -> Result<(), TranscodeError> {
        if !parts.body.is_empty() && self.route.body == Body::None {
            return Err(TranscodeError::field("body", "must be empty: the method takes none"));
        }
        if !parts.body.is_empty() && !self.route.takes_raw && !is_json(parts.content_type) {
            return Err(TranscodeError::MediaType("application/json, in UTF-8"));
        }
        Ok(())
    }

    fn put_body(&self, parts: RequestParts<'_>, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let route = &*self.route;
        let (schema, options) = (&route.schema, route.options.read);
        if route.takes_raw {
            if let Body::Field(index) = route.body {
                schema.messages[route.input.0].fields[index].tag.put(out);
                let mark = wire::open(out);
                put_raw(parts, out);
                wire::close(out, mark);
            } else {
                put_raw(parts, out);
            }
            return Ok(());
        }
        if parts.body.is_empty() {
            return Ok(());
        }
        match route.body {
            Body::None => Ok(()),
            Body::Whole => schema.to_wire(route.input, parts.body, options, out),
            Body::Field(index) => {
                let field = &schema.messages[route.input.0].fields[index];
                schema.field_to_wire(field, parts.body, options, out)
            }
        }
    }

    /// What the path says of a field that it binds, with the field's tag.
    fn path_leaf(&self, bound: &PathField, raw: &str) -> Result<Vec<u8>, TranscodeError> {
        let (schema, options) = (&*self.route.schema, &self.route.options);
        let kept = match (bound.is_multi_segment, options.keeps_reserved_encoded) {
            (false, _) => "",
            (true, false) => "/",
            (true, true) => RESERVED,
        };
        let text = decode(raw, kept).ok_or_else(|| {
            TranscodeError::field(bound.name.as_str(), "must be percent-encoded UTF-8")
        })?;
        let mut leaf = Vec::with_capacity(text.len() + 8);
        put_text(schema, &bound.path, &text, &bound.name, &mut leaf)?;
        Ok(leaf)
    }

    /// Refuses a body that says something else of a field that the path binds.
    fn refuse_other(
        &self,
        bound: &PathField,
        leaf: &[u8],
        has_body: bool,
        out: &[u8],
    ) -> Result<(), TranscodeError> {
        if has_body
            && let Ok(Some((_, other))) = wire::last_of(out, &bound.numbers)
            && leaf[bound.path.leaf(&self.route.schema).tag.len()..] != *other
        {
            let description = "is set by the path; the body must not have another value";
            return Err(TranscodeError::field(bound.name.as_str(), description));
        }
        Ok(())
    }

    /// Fills the mask of a PATCH that states none with the keys that its body has.
    fn put_mask(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let route = &*self.route;
        let (Some(mask), Body::Field(index)) = (route.mask, route.body) else { return Ok(()) };
        let request = &route.schema.messages[route.input.0];
        let is_stated = matches!(wire::last_of(out, &[request.fields[mask].number]), Ok(Some(_)));
        let (false, Kind::Message(id)) = (body.is_empty() || is_stated, request.fields[index].kind)
        else {
            return Ok(());
        };
        let paths = mask::of_body(&route.schema, id, body, |path| {
            route.path_fields.iter().any(|bound| {
                bound.path.first() == index
                    && bound.name.split_once('.').is_some_and(|(_, rest)| rest == path)
            })
        })?;
        if !paths.is_empty() {
            request.fields[mask].tag.put(out);
            let mark = wire::open(out);
            paths.iter().for_each(|path| scalar::put_mask_path(path, out));
            wire::close(out, mark);
        }
        Ok(())
    }
}

fn put_raw(parts: RequestParts<'_>, out: &mut Vec<u8>) {
    let content_type = parts.content_type.unwrap_or_default();
    for (tag, bytes) in [(CONTENT_TYPE, content_type.as_bytes()), (DATA, parts.body)] {
        if !bytes.is_empty() {
            out.push(tag);
            wire::put_delimited(out, bytes);
        }
    }
}

/// Appends the value that a text without quotes has for the last field of a path, with its tag; the default too.
pub(crate) fn put_text(
    schema: &Schema,
    path: &FieldPath,
    text: &str,
    name: &str,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let leaf = path.leaf(schema);
    let token = scalar::token_of_text(schema, leaf.kind, text);
    let put = if let Some(id) = leaf.kind.message_id() {
        leaf.tag.put(out);
        let mark = wire::open(out);
        let put = scalar::put_content(schema, &schema.messages[id], &token, out);
        wire::close(out, mark);
        put
    } else {
        scalar::put(schema, leaf.kind, &token, &leaf.tag, false, out)
    };
    put.map_err(|_| {
        let (noun, found) = (scalar::noun(schema, leaf.kind), short(text).escape_debug());
        TranscodeError::field(name, format!("must be {noun}, is `{found}`"))
    })
}

/// Appends a path's messages and its leaf; without the leaf if it has no value but the default and no presence.
pub(crate) fn put_leaf(schema: &Schema, path: &FieldPath, leaf: &[u8], out: &mut Vec<u8>) {
    let field = path.leaf(schema);
    // Zero is the default of each type, and no text is its length 0.
    let is_default = field.shape == Shape::One
        && !field.has_presence
        && leaf[field.tag.len()..].iter().all(|byte| *byte == 0);
    path.put(schema, if is_default { &[] } else { leaf }, out);
}

pub(crate) fn refuse_rival(
    schema: &Schema,
    path: &FieldPath,
    name: &str,
    out: &[u8],
) -> Result<(), TranscodeError> {
    match path.rival(schema, out) {
        Some(rival) => {
            Err(TranscodeError::field(name, format!("excludes `{rival}`, which is given too")))
        }
        None => Ok(()),
    }
}

/// `application/json` or any `+json`; anything else would let a page of another site send "simple" requests.
pub(crate) fn is_json(content_type: Option<&str>) -> bool {
    is_media_type(content_type, |essence| {
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// Whether a content type's essence, in lower case, is one that is taken, and its text is in UTF-8.
pub(crate) fn is_media_type(content_type: Option<&str>, takes: impl Fn(&str) -> bool) -> bool {
    let Some(content_type) = content_type else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    takes(&essence)
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            Some(_) | None => true,
        })
}

/// Reserved characters of RFC 6570, section 1.5.
const RESERVED: &str = ":/?#[]@!$&'()*+,;=";

/// Percent-decodes all but the characters of `kept`, which stay as received: `%2F` can't make another segment.
fn decode(raw: &str, kept: &str) -> Option<String> {
    if !is_well_encoded(raw) {
        return None;
    }
    if kept.is_empty() {
        return percent_decode_str(raw).decode_utf8().ok().map(Into::into);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = std::str::from_utf8(after.get(..2).unwrap_or_default());
        let escaped = digits.ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *byte == b'%') {
            Some(escaped) if kept.as_bytes().contains(&escaped) => bytes.extend(&rest[..3]),
            Some(escaped) => bytes.push(escaped),
            None => {
                bytes.push(*byte);
                rest = after;
                continue;
            }
        }
        rest = &rest[3..];
    }
    String::from_utf8(bytes).ok()
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
    fn r3_slashes_stay_encoded_across_segments_only() {
        let cases = [
            ("a%2Fb", "", Some("a/b")),
            ("a%2Fb/c%20d%2fe%3A", "/", Some("a%2Fb/c d%2fe:")),
            ("a%2Fb/c%20d%3a%3F", RESERVED, Some("a%2Fb/c d%3a%3F")),
            ("a+b", "", Some("a+b")),
            ("%C3%A9", "/", Some("é")),
            ("%FF", "", None),
            ("%zz", "", None),
            ("%2", "/", None),
            ("é%2", "/", None),
        ];
        for (raw, kept, text) in cases {
            assert_eq!(decode(raw, kept).as_deref(), text, "{raw}");
        }
    }

    #[test]
    fn r16_only_json_in_utf8_is_read() {
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
