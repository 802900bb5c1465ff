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

/// The header that names the request id of a call over HTTP (draft-ietf-httpapi-idempotency-key-header), in lower case.
pub const HEADER: &str = "idempotency-key";

/// Characters of an idempotency key, without its quotes, at most.
const KEY_CHARS_MAX: usize = 255;

/// The request id that an idempotency key stands for: the UUID that it is, or else one that is made of it.
///
/// # Errors
/// INVALID_FIELD if it is no string in quotes and no bare token, or is too long.
pub fn of_key(text: &str) -> Result<Uuid, Error> {
    let refuse = || {
        let why = format!(
            "must be 1 to {KEY_CHARS_MAX} visible ASCII characters, in quotes or without, such as a UUID"
        );
        Error::invalid(HEADER, why)
    };
    let quoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"').ok_or_else(refuse));
    let key = quoted.transpose()?.unwrap_or(text);
    // None of those that a list, a parameter or an escape would be made of: there is one way to write a key.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,;".contains(&byte);
    if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.bytes().all(is_plain) {
        return Err(refuse());
    }
    if let Ok(id) = Uuid::try_parse(key) {
        return if id.is_nil() { Err(refuse()) } else { Ok(id) };
    }
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
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

    #[test]
    fn an_idempotency_key_is_its_uuid_or_always_the_same_one() {
        let uuid = "5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11";
        let expected = Uuid::try_parse(uuid).ok();
        let upper = uuid.to_uppercase();
        for text in [uuid, &format!("\"{uuid}\""), &upper] {
            assert_eq!(of_key(text).ok(), expected, "{text}");
        }
        let made = of_key("order-7").expect("a key");
        assert_eq!(of_key("\"order-7\""), Ok(made));
        assert_ne!(of_key("order-8"), Ok(made));
        assert_eq!(optional(&made.to_string()), Ok(Some(made)));
        let longest = "k".repeat(KEY_CHARS_MAX);
        assert!(of_key(&longest).is_ok());
        for text in [
            "",
            "\"\"",
            "\"",
            "\"open",
            "open\"",
            "two words",
            "a,b",
            "a;b=c",
            "a\\b",
            "ä",
            "00000000-0000-0000-0000-000000000000",
            &format!("{longest}k"),
        ] {
            let error = of_key(text).expect_err(text);
            assert_eq!(error.violations[0].field, HEADER, "{text}");
        }
    }
}
