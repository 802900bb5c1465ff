//! Request ids (AIP-155): a UUID made by the caller, under which a call has its effect once.

use crate::Error;
use aws_lc_rs::digest;
use uuid::Uuid;

/// Reads a `request_id`; `None` if it is empty.
///
/// # Errors
/// INVALID_FIELD if it is no UUID, or the nil one.
pub fn optional(text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    match Uuid::try_parse(text) {
        Ok(id) if !id.is_nil() => Ok(Some(id)),
        _ => Err(Error::invalid("request_id", "must be a UUID, and not the nil one")),
    }
}

/// Reads a `request_id` that must be there.
///
/// # Errors
/// INVALID_FIELD if it is not, or is no UUID.
pub fn required(text: &str) -> Result<Uuid, Error> {
    optional(text)?.ok_or_else(|| Error::invalid("request_id", "is required"))
}

/// What a request id stands for: the same id with another fingerprint is REQUEST_ID_REUSED.
#[must_use]
pub fn fingerprint(method: &str, request: &impl prost::Message) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(method.as_bytes());
    context.update(&[0]);
    context.update(&request.encode_to_vec());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_a_request_id() {
        assert_eq!(optional(""), Ok(None));
        assert!(optional("5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11").is_ok_and(|id| id.is_some()));
        for text in ["x", "00000000-0000-0000-0000-000000000000", "5c9f"] {
            assert!(optional(text).is_err(), "{text}");
        }
        assert!(required("").is_err());
    }
}
