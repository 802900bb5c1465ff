//! A message as JSON that an operator may read. What is not known to be harmless is not shown: fields marked `debug_redact`,
//! bytes (of which the length is), and messages of unknown types.

use crate::descriptors::DESCRIPTORS;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MapKey;
use prost_reflect::ReflectMessage as _;
use prost_reflect::Value;
use prost_reflect::prost::bytes::Bytes;
use serde_json::Value as Json;
use serde_json::json;

/// In place of what is secret.
pub(super) const REDACTED: &str = "[redacted]";
/// How much JSON is made of a message, in values; a list of numbers is as many.
const VALUES_MAX: usize = 10_000;

/// The message in proto's JSON form, with the exceptions above.
pub(super) fn json(message: &DynamicMessage) -> Result<Json, String> {
    let mut renderer = Renderer { values: 0 };
    let json = renderer.message(message);
    if renderer.values > VALUES_MAX {
        return Err(format!("has more than {VALUES_MAX} values"));
    }
    Ok(json)
}

/// Whether a field's value is secret.
pub(super) fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let marked = options.get_field_by_name("debug_redact");
    marked.is_some_and(|value| value.as_bool() == Some(true))
}

struct Renderer {
    values: usize,
}

impl Renderer {
    fn message(&mut self, message: &DynamicMessage) -> Json {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => return self.any(message),
            "google.protobuf.BytesValue" => {}
            // Timestamps and such have forms of their own, and nothing in them that could be marked.
            name if name.starts_with("google.protobuf.") => {
                return serde_json::to_value(message).unwrap_or(Json::Null);
            }
            _ => {}
        }
        let fields = message.fields().map(|(field, value)| {
            let shown = match is_secret(&field) {
                true => json!(REDACTED),
                false => self.value(&field.kind(), value),
            };
            (field.json_name().to_owned(), shown)
        });
        Json::Object(fields.collect())
    }

    fn any(&mut self, any: &DynamicMessage) -> Json {
        let text = |name| any.get_field_by_name(name).and_then(|it| it.as_str().map(str::to_owned));
        let url = text("type_url").unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        let value = any.get_field_by_name("value").and_then(|value| value.as_bytes().cloned());
        let inner = DESCRIPTORS
            .get_message_by_name(name)
            .and_then(|known| DynamicMessage::decode(known, value.unwrap_or_default()).ok());
        let inner = inner.map_or_else(|| json!(REDACTED), |inner| self.message(&inner));
        json!({"@type": url, "value": inner})
    }

    fn value(&mut self, kind: &Kind, value: &Value) -> Json {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Json::Null;
        }
        match value {
            Value::Bool(value) => json!(value),
            Value::I32(value) => json!(value),
            Value::U32(value) => json!(value),
            // As text, as JSON's numbers are floats to many.
            Value::I64(value) => json!(value.to_string()),
            Value::U64(value) => json!(value.to_string()),
            Value::F32(value) => float(f64::from(*value)),
            Value::F64(value) => float(*value),
            Value::String(value) => json!(value),
            Value::Bytes(value) => bytes(value),
            Value::EnumNumber(number) => {
                let known = kind.as_enum().and_then(|known| known.get_value(*number));
                known.map_or_else(|| json!(number), |value| json!(value.name()))
            }
            Value::Message(message) => self.message(message),
            Value::List(values) => values.iter().map(|value| self.value(kind, value)).collect(),
            Value::Map(entries) => {
                let Some(entry) = kind.as_message() else { return Json::Null };
                let kind = entry.map_entry_value_field().kind();
                let shown = entries.iter();
                let shown = shown.map(|(key, value)| (key_text(key), self.value(&kind, value)));
                Json::Object(shown.collect())
            }
        }
    }
}

fn bytes(value: &Bytes) -> Json {
    json!(format!("[{} bytes]", value.len()))
}

fn float(value: f64) -> Json {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::prost::Message;

    /// Names, or parts of names, of what nobody may read.
    const SECRET_NAMES: [&str; 12] = [
        "secret",
        "password",
        "passphrase",
        "private_key",
        "salt",
        "email",
        "credential",
        "api_key",
        "bootstrap_token",
        "join_token",
        "access_token",
        "refresh_token",
    ];
    /// What is named so and is none: an id.
    const HARMLESS: &str = "linkmesh.common.v1.ApiKeyCaller.api_key_id";

    fn decoded(message: &impl Message, name: &str) -> DynamicMessage {
        let descriptor = proto::DESCRIPTORS.get_message_by_name(name).unwrap();
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).unwrap()
    }

    #[test]
    fn every_field_that_looks_secret_is_marked() {
        let messages = proto::DESCRIPTORS
            .all_messages()
            .filter(|message| message.package_name().starts_with("linkmesh."));
        let unmarked: Vec<_> = messages
            .flat_map(|message| message.fields().collect::<Vec<_>>())
            .filter(|field| SECRET_NAMES.iter().any(|name| field.name().contains(name)))
            // Of a message, the fields are looked at; and whether there is a secret is none.
            .filter(|field| field.kind().as_message().is_none() && field.kind() != Kind::Bool)
            .filter(|field| field.full_name() != HARMLESS && !is_secret(field))
            .map(|field| field.full_name().to_owned())
            .collect();
        assert!(unmarked.is_empty(), "add [debug_redact = true] to {unmarked:?}");
    }

    #[test]
    fn a_marked_field_is_redacted_and_bytes_are_a_length() {
        let created = proto::identity::v1::CreateApiKeyResponse {
            secret: "lmk_hunter2".to_owned(),
            ..Default::default()
        };
        let shown = json(&decoded(&created, "linkmesh.identity.v1.CreateApiKeyResponse")).unwrap();
        assert_eq!(shown, json!({"secret": REDACTED}));
        let route =
            proto::links::v1::Route { link_id: vec![7; 16], status: 302, ..Default::default() };
        let shown = json(&decoded(&route, "linkmesh.links.v1.Route")).unwrap();
        assert_eq!(shown, json!({"linkId": "[16 bytes]", "status": 302}));
    }

    #[test]
    fn what_is_packed_into_any_is_redacted_too() {
        let created = proto::identity::v1::CreateApiKeyResponse {
            secret: "lmk_hunter2".to_owned(),
            ..Default::default()
        };
        let pack = |name: &str| {
            let url = format!("type.googleapis.com/{name}");
            let descriptor = proto::DESCRIPTORS.get_message_by_name("google.protobuf.Any").unwrap();
            let mut any = DynamicMessage::new(descriptor);
            any.set_field_by_name("type_url", Value::String(url));
            any.set_field_by_name("value", Value::Bytes(created.encode_to_vec().into()));
            json(&any).unwrap()["value"].clone()
        };
        let shown = pack("linkmesh.identity.v1.CreateApiKeyResponse");
        assert_eq!(shown, json!({"secret": REDACTED}));
        assert_eq!(pack("some.Unknown"), json!(REDACTED));
    }

    #[test]
    fn what_has_too_many_values_is_not_shown() {
        let links = vec![Default::default(); VALUES_MAX + 1];
        let list = proto::links::v1::ListLinksResponse { links, ..Default::default() };
        let shown = json(&decoded(&list, "linkmesh.links.v1.ListLinksResponse"));
        assert!(shown.unwrap_err().contains("10000"));
    }
}
