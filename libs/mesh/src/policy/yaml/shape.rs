//! From a tree of values to the message, guided by the message's descriptor.

use super::duration;
use crate::policy::compile;
use crate::policy::record::descriptor;
use prost_reflect::DynamicMessage;
use prost_reflect::EnumDescriptor;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value as Field;
use prost_reflect::prost_types;
use proto::mesh::v1::ServicePolicy;
use serde_yaml_ng::Value;
use std::time::Duration;

pub(super) const DURATION: &str = "google.protobuf.Duration";

/// What is wrong, by field.
type Wrong = Vec<(String, String)>;

/// The policy that a tree describes.
pub(super) fn policy(value: &Value) -> Result<ServicePolicy, Wrong> {
    let mut reading = Reading::default();
    let message = reading.message("", value, &descriptor("ServicePolicy"));
    if !reading.wrong.is_empty() {
        return Err(reading.wrong);
    }
    let message = message.unwrap_or_else(|| DynamicMessage::new(descriptor("ServicePolicy")));
    Ok(message.transcode_to().expect("a message has its own descriptor"))
}

#[derive(Default)]
struct Reading {
    wrong: Wrong,
}

impl Reading {
    fn refuse<T>(&mut self, path: &str, message: impl Into<String>) -> Option<T> {
        self.wrong.push((path.to_owned(), message.into()));
        None
    }

    fn message(
        &mut self,
        path: &str,
        value: &Value,
        descriptor: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let Value::Mapping(mapping) = value else {
            return self.refuse(path, format!("must be a mapping of fields, is {}", shown(value)));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        for (key, value) in mapping {
            let Value::String(key) = key else {
                self.wrong.push((path.to_owned(), format!("has the field {}", shown(key))));
                continue;
            };
            let separator = if path.is_empty() { "" } else { "." };
            let by_name = descriptor.get_field_by_name(key);
            let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(key)) else {
                let wrong = format!("is not a field; {}", known_fields(descriptor, key));
                self.wrong.push((format!("{path}{separator}{key}"), wrong));
                continue;
            };
            let path = format!("{path}{separator}{}", field.name());
            self.field(&path, value, &field, &mut message);
        }
        Some(message)
    }

    fn field(
        &mut self,
        path: &str,
        value: &Value,
        field: &FieldDescriptor,
        message: &mut DynamicMessage,
    ) {
        // As in JSON, null is as if it were not there.
        if matches!(value, Value::Null) {
            return;
        }
        if message.has_field(field) {
            self.wrong.push((path.to_owned(), "is there twice".to_owned()));
            return;
        }
        if let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof.fields().find(|other| message.has_field(other))
        {
            self.wrong.push((path.to_owned(), format!("excludes `{}`", other.name())));
            return;
        }
        let read = if field.is_list() {
            self.list(path, value, &field.kind())
        } else {
            self.single(path, value, &field.kind())
        };
        if let Some(read) = read {
            message.set_field(field, read);
        }
    }

    fn list(&mut self, path: &str, value: &Value, kind: &Kind) -> Option<Field> {
        let Value::Sequence(values) = value else {
            return self.refuse(path, format!("must be a list, is {}", shown(value)));
        };
        let mut read = Vec::new();
        for (index, value) in values.iter().enumerate() {
            read.extend(self.single(&format!("{path}[{index}]"), value, kind));
        }
        Some(Field::List(read))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "protobuf has many kinds, a policy few")]
    fn single(&mut self, path: &str, value: &Value, kind: &Kind) -> Option<Field> {
        match kind {
            Kind::Message(descriptor) if descriptor.full_name() == DURATION => {
                self.duration(path, value, descriptor)
            }
            Kind::Message(descriptor) => self.message(path, value, descriptor).map(Field::Message),
            Kind::Enum(descriptor) => self.name(path, value, descriptor),
            Kind::String => self.text(path, value).map(Field::String),
            Kind::Bool => match value.as_bool() {
                Some(is) => Some(Field::Bool(is)),
                None => self.refuse(path, format!("must be true or false, is {}", shown(value))),
            },
            Kind::Uint32 => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Some(Field::U32(number)),
                None => {
                    let allowed = format!("a whole number from 0 to {}", u32::MAX);
                    self.refuse(path, format!("must be {allowed}, is {}", shown(value)))
                }
            },
            Kind::Double => match value.as_f64() {
                Some(number) => Some(Field::F64(number)),
                None => self.refuse(path, format!("must be a number, is {}", shown(value))),
            },
            _ => unreachable!("policy.proto has no such field, which a test asserts"),
        }
    }

    fn text(&mut self, path: &str, value: &Value) -> Option<String> {
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        if value.is_number() || value.is_bool() {
            // What YAML takes for something else, such as a version `2.0`.
            let quoted = format!("\"{}\"", shown(value));
            return self.refuse(path, format!("must be text; write it in quotes, {quoted}"));
        }
        self.refuse(path, format!("must be text, is {}", shown(value)))
    }

    fn duration(
        &mut self,
        path: &str,
        value: &Value,
        descriptor: &MessageDescriptor,
    ) -> Option<Field> {
        let read = value.as_str().and_then(duration::parse);
        let Some(message) = read.and_then(to_message) else {
            let allowed = "a number with its unit, one of ms, s, m and h, such as \"0.5s\"";
            return self.refuse(path, format!("must be {allowed}; is {}", shown(value)));
        };
        let mut dynamic = DynamicMessage::new(descriptor.clone());
        dynamic.transcode_from(&message).expect("a duration has its own descriptor");
        Some(Field::Message(dynamic))
    }

    fn name(&mut self, path: &str, value: &Value, descriptor: &EnumDescriptor) -> Option<Field> {
        let prefix = enum_prefix(descriptor);
        let wanted = value.as_str().unwrap_or_default();
        let found = descriptor.values().find(|known| {
            let short = known.name().strip_prefix(&prefix);
            known.number() != 0 && (known.name() == wanted || short == Some(wanted))
        });
        if let Some(found) = found {
            return Some(Field::EnumNumber(found.number()));
        }
        let known = descriptor.values().filter(|known| known.number() != 0);
        let known: Vec<_> =
            known.map(|it| it.name().trim_start_matches(&prefix).to_owned()).collect();
        self.refuse(path, format!("must be one of {}, is {}", known.join(", "), shown(value)))
    }
}

fn to_message(duration: Duration) -> Option<prost_types::Duration> {
    let seconds = i64::try_from(duration.as_secs()).ok()?;
    let nanos = i32::try_from(duration.subsec_nanos()).ok()?;
    Some(prost_types::Duration { seconds, nanos })
}

/// What the names of an enum's values begin with, as buf wants them.
pub(super) fn enum_prefix(descriptor: &EnumDescriptor) -> String {
    descriptor.default_value().name().trim_end_matches("UNSPECIFIED").to_owned()
}

/// A value as it is shown to who wrote it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => compile::quoted(text),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(tagged) => format!("tagged with {}", tagged.tag),
    }
}

/// The field that was meant, or those that there are.
fn known_fields(descriptor: &MessageDescriptor, wanted: &str) -> String {
    let names: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
    let near = names.iter().map(|name| (distance(name, wanted), name)).min();
    match near {
        Some((0..=2, name)) => format!("did you mean `{name}`?"),
        _ => format!("there are {}", names.join(", ")),
    }
}

/// How many letters must be changed, added or left out to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of field that a message has, in its own fields and below.
    #[expect(clippy::wildcard_enum_match_arm, reason = "protobuf has many kinds, a policy few")]
    fn visit(descriptor: &MessageDescriptor) {
        for field in descriptor.fields() {
            assert!(!field.is_map() && !field.is_group(), "{}", field.full_name());
            match field.kind() {
                Kind::Message(below) if below.full_name() == DURATION => {}
                Kind::Message(below) => visit(&below),
                Kind::Enum(names) => {
                    assert!(names.default_value().name().ends_with("_UNSPECIFIED"));
                }
                Kind::String | Kind::Bool | Kind::Uint32 | Kind::Double => {}
                _ => panic!("{} is of a kind that is not read", field.full_name()),
            }
        }
    }

    #[test]
    fn every_kind_of_field_that_a_policy_has_is_read() {
        visit(&descriptor("ServicePolicy"));
    }

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
        assert_eq!(distance("timeout", "timeuot"), 2);
        assert_eq!(distance("timeout", "timeout"), 0);
        assert_eq!(distance("retry", ""), 5);
        assert!(distance("retry", "criticality") > 2);
    }
}
