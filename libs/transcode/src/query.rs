//! The query to fields: nested by dots, repeated by repetition, values as ProtoJSON; what is unknown is refused.

use crate::error::TranscodeError;
use crate::error::short;
use crate::path::FieldPath;
use crate::path::is_scalar;
use crate::request;
use crate::route::Body;
use crate::schema::Message;
use crate::schema::Shape;
use crate::table::Match;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// How many parameters a query may have.
const PARAMETERS_MAX: usize = 1_000;

/// Appends the fields that the query names.
///
/// # Errors
/// A parameter that is unknown, bound elsewhere, doubled or not of its type.
pub(crate) fn put(matched: &Match, query: &str, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
    let route = &*matched.route;
    let mut seen: Vec<FieldPath> = Vec::new();
    let mut leaf = Vec::new();
    for (index, parameter) in query.split('&').filter(|text| !text.is_empty()).enumerate() {
        if index == PARAMETERS_MAX {
            let description = format!("must have at most {PARAMETERS_MAX} parameters");
            return Err(TranscodeError::field("query", description));
        }
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let key = decode(key, route.options.plus_is_space)?;
        let value = decode(value, route.options.plus_is_space)?;
        let Some(path) = resolve(matched, &key)? else { continue };
        let name = path.name(&route.schema);
        refuse_bound_elsewhere(matched, &path, &name)?;
        leaf.clear();
        request::put_text(&route.schema, &path, &value, &name, &mut leaf)?;
        let is_single = path.leaf(&route.schema).shape == Shape::One;
        if is_single && seen.contains(&path) {
            return Err(TranscodeError::field(name, "is given twice"));
        }
        request::refuse_rival(&route.schema, &path, &name, out)?;
        request::put_leaf(&route.schema, &path, &leaf, out);
        if is_single {
            seen.push(path);
        }
    }
    Ok(())
}

fn decode(raw: &str, plus_is_space: bool) -> Result<Cow<'_, str>, TranscodeError> {
    let malformed = || TranscodeError::field("query", "must be percent-encoded UTF-8");
    if !request::is_well_encoded(raw) {
        return Err(malformed());
    }
    if plus_is_space && raw.contains('+') {
        let spaced = raw.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| malformed())?;
        return Ok(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(raw).decode_utf8().map_err(|_| malformed())
}

/// The field that a key names; none if it is no field's and that is to be passed over.
fn resolve(matched: &Match, key: &str) -> Result<Option<FieldPath>, TranscodeError> {
    let route = &*matched.route;
    let find = |message: &Message, name: &str| message.index_by_name(name, usize::MAX);
    let path = FieldPath::resolve(&route.schema, route.input.0, key.split('.'), find);
    let Some(path) = path else {
        if route.options.read.ignores_unknown {
            return Ok(None);
        }
        let description = format!("is no parameter; {}", takes(matched));
        return Err(TranscodeError::field(short(key), description));
    };
    let leaf = path.leaf(&route.schema);
    if leaf.shape == Shape::Map || !is_scalar(&route.schema, leaf) {
        let description = "is a message or a map, which a query can't hold";
        return Err(TranscodeError::field(short(key), description));
    }
    Ok(Some(path))
}

/// Which parameters there are, for whoever used another.
fn takes(matched: &Match) -> String {
    let route = &*matched.route;
    let input = &route.schema.messages[route.input.0];
    let is_bound = |index| route.path_fields.iter().any(|bound| bound.path.first() == index);
    let names: Vec<&str> = (0..)
        .zip(&input.fields)
        .filter(|(index, _)| match route.body {
            Body::Whole => false,
            Body::Field(body) => body != *index && !is_bound(*index),
            Body::None => !is_bound(*index),
        })
        .map(|(_, field)| &*field.json_name)
        .collect();
    if names.is_empty() {
        return "the method takes none".to_owned();
    }
    format!("the method takes {}", names.join(", "))
}

fn refuse_bound_elsewhere(
    matched: &Match,
    path: &FieldPath,
    name: &str,
) -> Result<(), TranscodeError> {
    let refuse = |why: &str| Err(TranscodeError::field(name, why));
    if matched.route.path_fields.iter().any(|bound| bound.path == *path) {
        return refuse("is set by the path and can't be a query parameter");
    }
    match matched.route.body {
        Body::Whole => refuse("belongs into the body: the method takes no query parameters"),
        Body::Field(field) if path.first() == field => refuse("belongs into the body"),
        Body::Field(_) | Body::None => Ok(()),
    }
}
