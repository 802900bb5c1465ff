//! A method's answer to what an HTTP client gets: JSON, or the bytes of a `google.api.HttpBody`.

use crate::error::JsonError;
use crate::schema::Kind;
use crate::table::Match;
use crate::wire;
use bytes::Bytes;
use std::borrow::Cow;

/// An answer, or one message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The `Content-Type` of an answer that is no stream.
    pub media_type: Cow<'static, str>,
    /// The body, or a part of it.
    pub body: Bytes,
}

/// The type of an HttpBody that has none (RFC 9110, 8.3).
const OCTETS: &str = "application/octet-stream";

impl Match {
    /// Writes an answer, or one message of a stream: the whole message, or the field that `response_body` names, as canonical
    /// ProtoJSON; an HttpBody as it is.
    ///
    /// # Errors
    /// The bytes are no such message, or hold what has no JSON, such as an `Any` of an unknown type.
    pub fn response(&self, message: &[u8]) -> Result<Reply, JsonError> {
        let route = &*self.route;
        if route.answers_raw {
            return self.raw(message);
        }
        let mut json = Vec::with_capacity(2 * message.len() + 64);
        let options = route.options.write;
        match route.response_body {
            None => route.schema.to_json(route.output, message, options, &mut json)?,
            Some(field) => {
                route.schema.field_to_json(route.output, field, message, options, &mut json)?;
            }
        }
        Ok(Reply { media_type: Cow::Borrowed("application/json"), body: json.into() })
    }

    fn raw(&self, message: &[u8]) -> Result<Reply, JsonError> {
        let output = &self.route.schema.messages[self.route.output.0];
        let broken = |wire::Broken(why): wire::Broken| JsonError {
            message: output.name.clone(),
            why: why.to_owned(),
        };
        let mut path = Vec::new();
        if let Some(index) = self.route.response_body {
            debug_assert!(matches!(output.fields[index].kind, Kind::Message(_)), "an HttpBody");
            path.push(output.fields[index].number);
        }
        let mut part = |number: u32| {
            path.push(number);
            let found = wire::last_of(message, &path);
            path.pop();
            let (_, value) = found.map_err(broken)?.unwrap_or((wire::WireType::Delimited, &[0]));
            wire::Cursor::new(value).delimited().map_err(broken)
        };
        let content_type = String::from_utf8_lossy(part(1)?).into_owned();
        let body = Bytes::copy_from_slice(part(2)?);
        let media_type =
            if content_type.is_empty() { OCTETS.into() } else { Cow::Owned(content_type) };
        Ok(Reply { media_type, body })
    }
}
