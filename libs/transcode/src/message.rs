//! One message between its wire form and ProtoJSON, whole, for protocols that have no path or query to bind.

use crate::json;
use crate::request::TranscodeError;
use crate::response::JsonError;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;

/// Reads a JSON object as a message, encoded.
///
/// # Errors
/// Anything that the message has no place for, and what is no JSON.
pub fn from_json(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Bytes, TranscodeError> {
    let value = json::parse(json)?;
    Ok(json::message(descriptor, &value, "")?.encode_to_vec().into())
}

/// Writes an encoded message as canonical ProtoJSON.
///
/// # Errors
/// The bytes are no such message, or it holds an `Any` of an unknown type.
pub fn to_json(descriptor: &MessageDescriptor, message: &[u8]) -> Result<Bytes, JsonError> {
    let message = DynamicMessage::decode(descriptor.clone(), message)
        .map_err(|error| JsonError(error.to_string()))?;
    let json = serde_json::to_vec(&message).map_err(|error| JsonError(error.to_string()))?;
    Ok(json.into())
}
