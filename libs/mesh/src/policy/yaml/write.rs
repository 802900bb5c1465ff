//! A policy as text: what people would have written, in the order of policy.proto.

use super::duration;
use super::shape::DURATION;
use super::shape::enum_prefix;
use crate::policy::compile;
use crate::policy::record::descriptor;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::ReflectMessage as _;
use prost_reflect::Value as Field;
use prost_reflect::prost_types;
use proto::mesh::v1::ServicePolicy;
use serde_yaml_ng::Mapping;
use serde_yaml_ng::Value;

/// As YAML, which [`read_yaml`](super::read_yaml) reads back.
#[must_use]
pub fn write_yaml(policy: &ServicePolicy) -> String {
    let value = message(&dynamic(policy));
    serde_yaml_ng::to_string(&value).expect("text, numbers and lists have a YAML form")
}

/// As protobuf's JSON.
#[must_use]
pub fn write_json(policy: &ServicePolicy) -> serde_json::Value {
    serde_json::to_value(dynamic(policy)).unwrap_or_else(|error| {
        // Only what nobody validated: a duration beyond protobuf's range.
        serde_json::Value::String(format!("it has no JSON form: {error}"))
    })
}

fn dynamic(policy: &ServicePolicy) -> DynamicMessage {
    let mut dynamic = DynamicMessage::new(descriptor("ServicePolicy"));
    dynamic.transcode_from(policy).expect("a message has its own descriptor");
    dynamic
}

fn message(message: &DynamicMessage) -> Value {
    let fields = message.fields().map(|(field, value)| {
        let value = match value.as_list() {
            Some(values) => values.iter().map(|value| single(&field, value)).collect(),
            None => single(&field, value),
        };
        (Value::String(field.name().to_owned()), value)
    });
    Value::Mapping(fields.collect::<Mapping>())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "protobuf has many kinds, a policy few")]
fn single(field: &FieldDescriptor, value: &Field) -> Value {
    if let (Field::EnumNumber(number), Kind::Enum(names)) = (value, field.kind()) {
        let name = names.get_value(*number).map(|known| known.name().to_owned());
        let name = name.unwrap_or_else(|| number.to_string());
        return Value::String(name.trim_start_matches(&enum_prefix(&names)).to_owned());
    }
    match value {
        Field::Bool(is) => Value::Bool(*is),
        Field::U32(number) => Value::from(*number),
        // 50 as people write it, not 50.0.
        Field::F64(number) if number.fract() == 0.0 && number.abs() < 1e9 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Value::from(*number as i64)
        }
        Field::F64(number) => Value::from(*number),
        Field::String(text) => Value::String(text.clone()),
        Field::Message(below) if below.descriptor().full_name() == DURATION => {
            let said: prost_types::Duration =
                below.transcode_to().expect("a message has its own descriptor");
            let text = match compile::duration(&said) {
                Some(duration) => duration::format(duration),
                // Shown all the same, to who is to find what is wrong.
                None => format!("{} s and {} ns", said.seconds, said.nanos),
            };
            Value::String(text)
        }
        Field::Message(below) => message(below),
        _ => unreachable!("policy.proto has no such field, which a test of the reader asserts"),
    }
}
