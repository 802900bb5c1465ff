//! The query to fields: nested by dots, repeated by repetition, values as ProtoJSON; what is unknown is refused.

use crate::json;
use crate::request::TranscodeError;
use crate::request::descend;
use crate::request::is_well_encoded;
use crate::request::path_name;
use crate::route;
use crate::route::Body;
use crate::route::PathField;
use crate::table::Match;
use percent_encoding::percent_decode_str;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::Value;

/// How many parameters a query may have.
const PARAMETERS_MAX: usize = 1_000;

/// Sets the fields that the query names.
///
/// # Errors
/// A parameter that is unknown, bound elsewhere, doubled or not of its type.
pub(crate) fn bind(
    message: &mut DynamicMessage,
    matched: &Match<'_>,
    query: &str,
) -> Result<(), TranscodeError> {
    let mut seen: Vec<Vec<FieldDescriptor>> = Vec::new();
    for (index, parameter) in query.split('&').filter(|text| !text.is_empty()).enumerate() {
        if index == PARAMETERS_MAX {
            let description = format!("must have at most {PARAMETERS_MAX} parameters");
            return Err(TranscodeError::field("query", description));
        }
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let key = decode(key, matched.options.plus_is_space)?;
        let value = decode(value, matched.options.plus_is_space)?;
        let fields = resolve(matched, &key)?;
        refuse_bound_elsewhere(matched, &fields)?;
        set(message, &fields, &value, &mut seen)?;
    }
    Ok(())
}

fn decode(raw: &str, plus_is_space: bool) -> Result<String, TranscodeError> {
    let malformed = || TranscodeError::field("query", "must be percent-encoded UTF-8");
    if !is_well_encoded(raw) {
        return Err(malformed());
    }
    let spaced = if plus_is_space { raw.replace('+', " ") } else { raw.to_owned() };
    percent_decode_str(&spaced).decode_utf8().map(Into::into).map_err(|_| malformed())
}

fn resolve(matched: &Match<'_>, key: &str) -> Result<Vec<FieldDescriptor>, TranscodeError> {
    let refuse = |why: &str| TranscodeError::field(json::short(key), why);
    let unknown = || refuse(&format!("is no parameter; {}", takes(matched)));
    let mut message = Some(matched.route.method.input());
    let mut fields = Vec::new();
    for part in key.split('.') {
        let owner = message.ok_or_else(unknown)?;
        let field = json::field_of(&owner, part).ok_or_else(unknown)?;
        let is_single = !field.is_list() && !field.is_map();
        message = field
            .kind()
            .as_message()
            .filter(|message| is_single && !json::is_well_known(message))
            .cloned();
        fields.push(field);
    }
    let leaf = fields.last().ok_or_else(unknown)?;
    if leaf.is_map() || !route::is_scalar(&leaf.kind()) {
        return Err(refuse("is a message or a map, which a query can't hold"));
    }
    Ok(fields)
}

/// Which parameters there are, for whoever used another.
fn takes(matched: &Match<'_>) -> String {
    let input = matched.route.method.input();
    let in_path = |field: &FieldDescriptor| {
        matched.route.path_fields.iter().any(|bound| bound.fields.first() == Some(field))
    };
    let names: Vec<String> = input
        .fields()
        .filter(|field| match &matched.route.body {
            Body::Whole => false,
            Body::Field(body) => body != field && !in_path(field),
            Body::None => !in_path(field),
        })
        .map(|field| field.json_name().to_owned())
        .collect();
    if names.is_empty() {
        return "the method takes none".to_owned();
    }
    format!("the method takes {}", names.join(", "))
}

fn refuse_bound_elsewhere(
    matched: &Match<'_>,
    fields: &[FieldDescriptor],
) -> Result<(), TranscodeError> {
    let refuse = |why: &str| Err(TranscodeError::field(path_name(fields), why));
    let is_this = |bound: &PathField| bound.fields == fields;
    if matched.route.path_fields.iter().any(is_this) {
        return refuse("is set by the path and can't be a query parameter");
    }
    match &matched.route.body {
        Body::Whole => refuse("belongs into the body: the method takes no query parameters"),
        Body::Field(field) if fields.first() == Some(field) => refuse("belongs into the body"),
        Body::Field(_) | Body::None => Ok(()),
    }
}

fn set(
    message: &mut DynamicMessage,
    fields: &[FieldDescriptor],
    text: &str,
    seen: &mut Vec<Vec<FieldDescriptor>>,
) -> Result<(), TranscodeError> {
    let name = path_name(fields);
    let (leaf, parents) = fields.split_last().expect("a resolved path has a leaf");
    let value = scalar(leaf, text, &name)?;
    if leaf.is_list() {
        let owner = descend(message, parents);
        if let Some(list) = owner.get_field_mut(leaf).as_list_mut() {
            list.push(value);
        }
        return Ok(());
    }
    if seen.iter().any(|other| other == fields) {
        return Err(TranscodeError::field(name, "is given twice"));
    }
    let rival = leaf.containing_oneof().and_then(|oneof| {
        seen.iter().find(|other| {
            other.split_last().is_some_and(|(other_leaf, other_parents)| {
                other_parents == parents && other_leaf.containing_oneof() == Some(oneof.clone())
            })
        })
    });
    if let Some(rival) = rival {
        let description = format!("excludes `{}`, which is given too", path_name(rival));
        return Err(TranscodeError::field(name, description));
    }
    descend(message, parents).set_field(leaf, value);
    seen.push(fields.to_vec());
    Ok(())
}

/// Reads one value of a scalar field (or one item of a repeated one) from text, as ProtoJSON would.
///
/// # Errors
/// The text is no value of the field's type.
pub(crate) fn scalar(
    field: &FieldDescriptor,
    text: &str,
    name: &str,
) -> Result<Value, TranscodeError> {
    let kind = field.kind();
    let refuse = |why: String| TranscodeError::field(name, why);
    let value = to_json(&kind, text).ok_or_else(|| refuse(format!("must be {}", noun(&kind))))?;
    let value = if field.is_list() { serde_json::Value::Array(vec![value]) } else { value };
    let holder = json::field(field, value, name).map_err(|_| {
        refuse(format!("must be {}, is `{}`", noun(&kind), json::short(text).escape_debug()))
    })?;
    let mut value = holder.get_field(field).into_owned();
    match value.as_list_mut().filter(|_| field.is_list()) {
        Some(items) => items.pop().ok_or_else(|| refuse("must have a value".to_owned())),
        None => Ok(value),
    }
}

fn to_json(kind: &Kind, text: &str) -> Option<serde_json::Value> {
    let string = || Some(serde_json::Value::String(text.to_owned()));
    let boolean = || text.parse::<bool>().ok().map(serde_json::Value::Bool);
    let number = || match text {
        "NaN" | "Infinity" | "-Infinity" => string(),
        _ if json::is_number_text(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    if json::is_numeric(kind) {
        return number();
    }
    if matches!(kind, Kind::Bool) {
        return boolean();
    }
    if matches!(kind, Kind::Enum(_)) {
        return text.parse::<i32>().map(Into::into).ok().or_else(string);
    }
    match kind.as_message().map_or("", |message| message.name()) {
        "BoolValue" => boolean(),
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value"
        | "UInt32Value" => number(),
        _ => string(),
    }
}

/// What a value of the kind is called in an error.
pub(crate) fn noun(kind: &Kind) -> String {
    if let Kind::Enum(descriptor) = kind {
        // Nobody is advised to send "unspecified".
        let named = descriptor.values().filter(|value| value.number() != 0);
        let names: Vec<String> = named.map(|value| value.name().to_owned()).collect();
        return format!("one of {}", names.join(", "));
    }
    if let Kind::Message(message) = kind {
        return match message.name() {
            "Timestamp" => "a time such as `2026-01-31T10:00:00Z`".to_owned(),
            "Duration" => "a duration such as `1.5s`".to_owned(),
            "FieldMask" => "field names in camelCase, joined by commas".to_owned(),
            name => format!("a {name}"),
        };
    }
    if json::is_numeric(kind) {
        return format!("a number of type {}", format!("{kind:?}").to_lowercase());
    }
    let text = if matches!(kind, Kind::Bool) {
        "`true` or `false`"
    } else if matches!(kind, Kind::Bytes) {
        "base64"
    } else {
        "text"
    };
    text.to_owned()
}
