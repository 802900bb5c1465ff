//! AIP-154: the `etag` of a resource as the precondition of a change, and as the version of what was read.

use crate::error::TranscodeError;
use crate::path::FieldPath;
use crate::route::Body;
use crate::route::Route;
use crate::route::by_proto_name;
use crate::schema::Form;
use crate::schema::Kind;
use crate::schema::Shape;
use crate::table::Match;
use crate::wire;
use crate::wire::Cursor;
use crate::wire::WireType;
use bytes::Bytes;

const ETAG: &str = "etag";

impl Match {
    /// Adds to an encoded request what `If-Match` says: that the resource's `etag` has to be this one still.
    ///
    /// # Errors
    /// The method has no place for it, or the request names another one itself.
    pub fn with_etag(&self, request: &Bytes, etag: &str) -> Result<Bytes, TranscodeError> {
        let schema = &self.route.schema;
        let Some(path) = self.route.etag_path() else {
            return Err(TranscodeError::field("if-match", "can't be kept: the method has no etag"));
        };
        if let Some(stated) = text_at(request, &path.numbers(schema))
            && !stated.is_empty()
        {
            if stated == etag.as_bytes() {
                return Ok(request.clone());
            }
            let description = "must not have another value than if-match";
            return Err(TranscodeError::field(path.name(schema), description));
        }
        let mut leaf = Vec::with_capacity(etag.len() + 8);
        path.leaf(schema).tag.put(&mut leaf);
        wire::put_delimited(&mut leaf, etag.as_bytes());
        let mut out = Vec::with_capacity(request.len() + leaf.len() + 8);
        out.extend_from_slice(request);
        path.put(schema, &leaf, &mut out);
        Ok(out.into())
    }

    /// The `etag` of an answer that is a resource with one.
    #[must_use]
    pub fn etag<'w>(&self, answer: &'w [u8]) -> Option<&'w str> {
        let (schema, route) = (&self.route.schema, &*self.route);
        let output = &schema.messages[route.output.0];
        let mut numbers = Vec::with_capacity(2);
        let resource = match route.response_body {
            None => output,
            Some(index) => {
                let field = &output.fields[index];
                numbers.push(field.number);
                &schema.messages[field.single_message()?]
            }
        };
        let field = &resource.fields[by_proto_name(resource, ETAG)?];
        if resource.form != Form::Fields || field.kind != Kind::String || field.shape != Shape::One
        {
            return None;
        }
        numbers.push(field.number);
        let etag = text_at(answer, &numbers)?;
        std::str::from_utf8(etag).ok().filter(|etag| !etag.is_empty())
    }
}

impl Route {
    /// Whether requests have an `etag`, and so take an `If-Match`.
    #[must_use]
    pub fn takes_etag(&self) -> bool {
        self.etag_path().is_some()
    }

    fn changes_a_resource(&self) -> bool {
        matches!(self.http_method, Some(http::Method::PATCH | http::Method::PUT))
    }

    /// Where a request has it: a field of its own, or of the resource in the body that changes one. What is created has no version to
    /// compare yet.
    fn etag_path(&self) -> Option<FieldPath> {
        let (schema, input) = (&self.schema, self.input.0);
        let resolve = |names: &[&str]| {
            let path = FieldPath::resolve(schema, input, names.iter().copied(), by_proto_name)?;
            let leaf = path.leaf(schema);
            (leaf.kind == Kind::String && leaf.shape == Shape::One).then_some(path)
        };
        resolve(&[ETAG]).or_else(|| match self.body {
            Body::Field(index) if self.changes_a_resource() => {
                resolve(&[&*schema.messages[input].fields[index].name, ETAG])
            }
            Body::Field(_) | Body::Whole | Body::None => None,
        })
    }
}

/// The last value of a field of text. The bytes were written by this crate or are a service's.
fn text_at<'w>(message: &'w [u8], numbers: &[u32]) -> Option<&'w [u8]> {
    let (wire_type, value) = wire::last_of(message, numbers).ok()??;
    if wire_type != WireType::Delimited {
        return None;
    }
    Cursor::new(value).delimited().ok()
}
