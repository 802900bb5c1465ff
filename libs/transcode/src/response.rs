//! A method's answer to JSON.

use crate::table::Match;
use bytes::Bytes;
use prost_reflect::DynamicMessage;
use prost_reflect::SerializeOptions;

/// Why an answer makes no JSON: the service sent what its descriptors do not describe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer can't be written as JSON: {0}")]
pub struct JsonError(pub(crate) String);

impl Match<'_> {
    /// Writes an answer, or one message of a stream, as canonical ProtoJSON: the whole message, or the field that
    /// `response_body` names.
    ///
    /// # Errors
    /// The bytes are no such message, or it holds an `Any` of an unknown type.
    pub fn response(&self, message: &[u8]) -> Result<Bytes, JsonError> {
        let output = self.route.method.output();
        let message = DynamicMessage::decode(output, message)
            .map_err(|error| JsonError(error.to_string()))?;
        let Some(field) = &self.route.response_body else {
            return self.write(&message);
        };
        let value = message.get_field(field);
        if let Some(inner) = value.as_message() {
            return self.write(inner);
        }
        let mut holder = DynamicMessage::new(message_descriptor(&message));
        holder.set_field(field, value.into_owned());
        let options = self.serialize_options().skip_default_fields(false);
        let json = holder
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| JsonError(error.to_string()))?;
        let json = json.get(field.json_name()).cloned().unwrap_or_default();
        serde_json::to_vec(&json).map(Bytes::from).map_err(|error| JsonError(error.to_string()))
    }

    fn write(&self, message: &DynamicMessage) -> Result<Bytes, JsonError> {
        let mut serializer = serde_json::Serializer::new(Vec::new());
        message
            .serialize_with_options(&mut serializer, &self.serialize_options())
            .map_err(|error| JsonError(error.to_string()))?;
        Ok(serializer.into_inner().into())
    }

    fn serialize_options(&self) -> SerializeOptions {
        SerializeOptions::new().skip_default_fields(!self.options.emit_defaults)
    }
}

fn message_descriptor(message: &DynamicMessage) -> prost_reflect::MessageDescriptor {
    use prost_reflect::ReflectMessage as _;
    message.descriptor()
}
