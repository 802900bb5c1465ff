//! JSON to messages, strictly: no duplicate key, no unknown field, no field under two names, bounded depth.
//!
//! prost-reflect reads the values. What it would let pass is refused before, and when it refuses, the field is found.

use crate::query;
use crate::request::TranscodeError;
use crate::request::Violation;
use prost_reflect::DeserializeOptions;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use serde::de::DeserializeSeed;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use std::fmt;

/// How deeply objects and arrays may nest.
pub(crate) const DEPTH_MAX: usize = 100;

/// How much of another library's error text is passed on, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 200;

/// How many violations one request is told about.
const VIOLATIONS_MAX: usize = 20;

const STRICT: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(true);

/// Parses one JSON value that fills `bytes`.
///
/// # Errors
/// What is wrong and where, by line and column.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, TranscodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| TranscodeError::Malformed(short(&error.to_string())))?;
    Ok(value)
}

/// Reads a message; `path` leads to it in the request, and is empty for the request itself.
///
/// # Errors
/// Each field that is unknown, given twice or not of its type.
pub(crate) fn message(
    descriptor: &MessageDescriptor,
    value: &Value,
    path: &str,
) -> Result<DynamicMessage, TranscodeError> {
    let mut checker = Checker { violations: Vec::new(), tries_values: false };
    checker.message(descriptor, value, path);
    if !checker.violations.is_empty() {
        return Err(TranscodeError::Invalid(checker.violations));
    }
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &STRICT).map_err(|error| {
        checker.tries_values = true;
        checker.message(descriptor, value, path);
        if checker.violations.is_empty() {
            checker.push(path, short(&error.to_string()));
        }
        TranscodeError::Invalid(checker.violations)
    })
}

/// Reads the value of one field of `field`'s message.
///
/// # Errors
/// As [`message`].
pub(crate) fn field(
    field: &FieldDescriptor,
    value: Value,
    path: &str,
) -> Result<DynamicMessage, TranscodeError> {
    let mut object = Map::new();
    object.insert(field.json_name().to_owned(), value);
    let parent = path.strip_suffix(field.name()).unwrap_or(path).trim_end_matches('.');
    message(field.parent_message(), &Value::Object(object), parent)
}

/// The field that a JSON key names, by its JSON name or its proto name.
pub(crate) fn field_of(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key))
}

/// The names of a message's fields in JSON, for whoever used another.
fn names(descriptor: &MessageDescriptor) -> String {
    let names: Vec<String> =
        descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether a message has a JSON form of its own, instead of an object of its fields.
pub(crate) fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name().starts_with("google.protobuf.")
}

/// `parent.name`, or `name` at the root.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// At most so many characters of someone else's text.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(DESCRIPTION_CHARACTERS_MAX).collect()
}

/// Whether a JSON string may stand for a number: one in JSON's own form.
pub(crate) fn is_number_text(text: &str) -> bool {
    text.trim() == text && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Walks JSON beside a descriptor and collects what is wrong.
struct Checker {
    violations: Vec<Violation>,
    /// Whether each leaf is tried, to find the one that made the whole fail.
    tries_values: bool,
}

impl Checker {
    fn push(&mut self, path: &str, description: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations
                .push(Violation { field: path.to_owned(), description: description.into() });
        }
    }

    fn message(&mut self, descriptor: &MessageDescriptor, value: &Value, path: &str) {
        let Value::Object(object) = value else {
            return self.push(path, "must be a JSON object");
        };
        let mut seen: Vec<FieldDescriptor> = Vec::new();
        for (key, value) in object {
            let Some(field) = field_of(descriptor, key) else {
                let description = format!("is no field; there are {}", names(descriptor));
                self.push(&join(path, &short(key)), description);
                continue;
            };
            let field_path = join(path, field.name());
            if seen.contains(&field) {
                self.push(&field_path, "is given twice");
                continue;
            }
            if !value.is_null() {
                let rival = field.containing_oneof().and_then(|oneof| {
                    seen.iter().find(|s| s.containing_oneof() == Some(oneof.clone()))
                });
                if let Some(rival) = rival {
                    let description = format!("excludes `{}`, which is given too", rival.name());
                    self.push(&field_path, description);
                }
                seen.push(field.clone());
            }
            self.field(&field, value, &field_path);
        }
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value, path: &str) {
        if value.is_null() {
            return;
        }
        let kind = field.kind();
        if field.is_list() {
            let Some(items) = value.as_array() else {
                return self.push(path, "must be a JSON array");
            };
            for (index, item) in items.iter().enumerate() {
                let wrapped = || Value::Array(vec![item.clone()]);
                self.single(field, &kind, item, wrapped, &format!("{path}[{index}]"));
            }
        } else if let Some(entry) = kind.as_message().filter(|_| field.is_map()) {
            let Some(entries) = value.as_object() else {
                return self.push(path, "must be a JSON object");
            };
            let value_kind = entry.map_entry_value_field().kind();
            for (key, item) in entries {
                let wrapped = || Value::Object(Map::from_iter([(key.clone(), item.clone())]));
                let path = format!("{path}[{}]", short(key));
                self.single(field, &value_kind, item, wrapped, &path);
            }
        } else {
            self.single(field, &kind, value, || value.clone(), path);
        }
    }

    /// One value of a field; `wrapped` makes a value of the whole field that holds only it.
    fn single(
        &mut self,
        field: &FieldDescriptor,
        kind: &Kind,
        value: &Value,
        wrapped: impl Fn() -> Value,
        path: &str,
    ) {
        if let Some(message) = kind.as_message().filter(|message| !is_well_known(message)) {
            return self.message(message, value, path);
        }
        if let Some(text) = value.as_str()
            && is_numeric(kind)
            && !is_number_text(text)
            && !(is_floating(kind) && matches!(text, "NaN" | "Infinity" | "-Infinity"))
        {
            return self.push(path, "must be a number");
        }
        if !self.tries_values {
            return;
        }
        let object = Value::Object(Map::from_iter([(field.json_name().to_owned(), wrapped())]));
        let parent = field.parent_message().clone();
        if DynamicMessage::deserialize_with_options(parent, &object, &STRICT).is_err() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let found = short(&text).escape_debug().to_string();
            self.push(path, format!("must be {}, is `{found}`", query::noun(kind)));
        }
    }
}

/// Whether values of a kind are numbers in JSON, or strings that hold one.
pub(crate) fn is_numeric(kind: &Kind) -> bool {
    match kind {
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => true,
        Kind::Double
        | Kind::Float
        | Kind::Bool
        | Kind::String
        | Kind::Bytes
        | Kind::Enum(_)
        | Kind::Message(_) => is_floating(kind),
    }
}

/// Whether a kind knows infinities.
pub(crate) fn is_floating(kind: &Kind) -> bool {
    matches!(kind, Kind::Double | Kind::Float)
}

/// Builds a value while refusing duplicate keys and deep nesting.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` is given twice", short(&key))));
            }
            let value = entries.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_and_deep_nesting_are_refused_at_any_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"b":1,"b":2}}]"#, "{", "1 2", "", "nul"] {
            assert!(parse(text.as_bytes()).is_err(), "`{text}` was accepted");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn only_json_numbers_in_strings_are_numbers() {
        for (text, is_number) in
            [("1", true), ("-0", true), ("1e2", true), ("+1", false), (" 1", false), ("inf", false)]
        {
            assert_eq!(is_number_text(text), is_number, "{text}");
        }
    }
}
