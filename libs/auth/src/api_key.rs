//! API keys: `lmk_<prefix>_<secret>`, a public prefix to look the key up by and a secret that only its digest is kept of.
//!
//! The secret has 160 bits from the operating system, so a fast hash is enough to store it by: there is nothing to guess.
//! Two things must stay true: no secret leaves this type but through [`ApiKey::reveal`], and digests are compared in
//! constant time.

use std::fmt;

use aws_lc_rs::digest;
use rand::TryRng as _;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq as _;

/// What every key begins with, so that scanners for leaked secrets can know one.
const SCHEME: &str = "lmk";
/// Characters of the public prefix: 60 bits, so that two keys rarely draw the same.
const PREFIX_CHARS: usize = 12;
/// Characters of the secret, 5 bits each: 160 bits.
const SECRET_CHARS: usize = 32;
const KEY_CHARS: usize = SCHEME.len() + 1 + PREFIX_CHARS + 1 + SECRET_CHARS;
/// Crockford's base 32 in lower case: one case, no look-alikes, nothing that a shell or a URL changes.
pub(crate) const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Whether a byte is one of those: every call presents a key, which is 45 of these questions.
const IS_DIGIT: [bool; 256] = {
    let mut is_digit = [false; 256];
    let mut place = 0;
    while place < ALPHABET.len() {
        is_digit[ALPHABET[place] as usize] = true;
        place += 1;
    }
    is_digit
};

const _: () = assert!(SECRET_CHARS * 5 >= 128, "a secret has at least 128 bits");

/// A whole API key, secret included. Neither `Debug` nor `Display` shows the secret.
#[derive(Clone)]
pub struct ApiKey {
    text: String,
}

/// Why a text is no API key. Never holds any of the text itself, which may be a secret in a wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// Does not begin with `lmk_`.
    #[error("an API key begins with `lmk_`")]
    Scheme,
    /// Has not two more parts, joined by `_`.
    #[error("an API key has three parts joined by `_`: lmk, prefix, secret")]
    Parts,
    /// The prefix has another length; holds the one seen.
    #[error("the prefix of an API key has {PREFIX_CHARS} characters, not {0}")]
    PrefixLength(usize),
    /// The secret has another length; holds the one seen.
    #[error("the secret of an API key has {SECRET_CHARS} characters, not {0}")]
    SecretLength(usize),
    /// A character outside the alphabet, at this byte of the key.
    #[error("byte {0} of the API key is not one of 0-9 and a-z without i, l, o and u")]
    Character(usize),
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct EntropyError(pub(crate) String);

impl ApiKey {
    /// A fresh key, random from the operating system. Fails only if that has no entropy to give.
    pub fn generate() -> Result<Self, EntropyError> {
        let mut random = [0; PREFIX_CHARS + SECRET_CHARS];
        SysRng.try_fill_bytes(&mut random).map_err(|error| EntropyError(error.to_string()))?;
        // 256 is a multiple of 32, so every character is equally likely.
        let characters = random.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        let (prefix, secret) = characters.split_at(PREFIX_CHARS);
        let mut text = String::with_capacity(KEY_CHARS);
        text.push_str(SCHEME);
        text.push('_');
        text.extend(prefix);
        text.push('_');
        text.extend(secret);
        Ok(Self { text })
    }

    /// Reads a key as a client sent it; names what is wrong with it. A key that parses need not exist.
    pub fn parse(text: &str) -> Result<Self, KeyFormatError> {
        let rest = text
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(KeyFormatError::Scheme)?;
        let (prefix, secret) = rest.split_once('_').ok_or(KeyFormatError::Parts)?;
        if secret.contains('_') {
            return Err(KeyFormatError::Parts);
        }
        if prefix.len() != PREFIX_CHARS {
            return Err(KeyFormatError::PrefixLength(prefix.chars().count()));
        }
        if secret.len() != SECRET_CHARS {
            return Err(KeyFormatError::SecretLength(secret.chars().count()));
        }
        let foreign = |(_, byte): &(usize, u8)| *byte != b'_' && !IS_DIGIT[usize::from(*byte)];
        if let Some((at, _)) = text.bytes().enumerate().skip(SCHEME.len()).find(foreign) {
            return Err(KeyFormatError::Character(at));
        }
        Ok(Self { text: text.to_owned() })
    }

    /// The public part: what a key is looked up, recognised and revoked by. 12 characters.
    pub fn prefix(&self) -> &str {
        let start = SCHEME.len() + 1;
        &self.text[start..start + PREFIX_CHARS]
    }

    /// What is stored instead of the key: SHA-256 of all of it, so a digest can't be moved to another prefix.
    pub fn digest(&self) -> KeyDigest {
        let hash = digest::digest(&digest::SHA256, self.text.as_bytes());
        KeyDigest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The whole key. For the one answer that shows it to its owner, and for clients that send it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey({SCHEME}_{}_…)", self.prefix())
    }
}

/// The SHA-256 of a key. There is no `==` on it: [`KeyDigest::matches`] takes the same time whatever differs.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Reads a stored digest; `None` unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are of the same key, in constant time.
    pub fn matches(&self, other: &KeyDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn key() -> ApiKey {
        ApiKey::generate().unwrap()
    }

    #[test]
    fn a_generated_key_parses_to_itself() {
        let key = key();
        let parsed = ApiKey::parse(key.reveal()).unwrap();
        assert_eq!(parsed.prefix(), key.prefix());
        assert!(parsed.digest().matches(&key.digest()));
        assert_eq!(key.reveal().len(), KEY_CHARS);
    }

    #[test]
    fn two_keys_differ_in_prefix_and_digest() {
        let (one, other) = (key(), key());
        assert_ne!(one.prefix(), other.prefix());
        assert!(!one.digest().matches(&other.digest()));
    }

    /// R47 of the edge: never logged.
    #[test]
    fn debug_shows_the_prefix_and_never_the_secret() {
        let key = key();
        let secret = &key.reveal()[KEY_CHARS - SECRET_CHARS..];
        let shown = format!("{key:?} {:?}", key.digest());
        assert!(shown.contains(key.prefix()));
        assert!(!shown.contains(secret));
    }

    #[test]
    fn each_parse_error_names_what_is_wrong() {
        let good = "lmk_0123456789ab_0123456789abcdefghjkmnpqrstvwxyz";
        assert!(ApiKey::parse(good).is_ok());
        let cases = [
            ("", KeyFormatError::Scheme),
            ("sk_0123456789ab_0123456789abcdefghjkmnpqrstvwxyz", KeyFormatError::Scheme),
            ("lmk_0123456789ab", KeyFormatError::Parts),
            ("lmk_0123456789ab_0123456789abcdefghjkmnpqrstvwxyz_", KeyFormatError::Parts),
            ("lmk_0123_0123456789abcdefghjkmnpqrstvwxyz", KeyFormatError::PrefixLength(4)),
            ("lmk_0123456789ab_0123", KeyFormatError::SecretLength(4)),
            ("lmk_0123456789ai_0123456789abcdefghjkmnpqrstvwxyz", KeyFormatError::Character(15)),
            ("lmk_0123456789ab_0123456789abcdefghjkmnpqrstvwxyZ", KeyFormatError::Character(48)),
        ];
        for (text, expected) in cases {
            assert_eq!(ApiKey::parse(text).unwrap_err(), expected, "{text:?}");
            assert!(!expected.to_string().is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(text in "(lmk_)?[\\PC_]{0,60}") {
            if let Ok(key) = ApiKey::parse(&text) {
                prop_assert_eq!(key.reveal(), text);
            }
        }

        /// R47 of the edge: the whole secret counts.
        #[test]
        fn a_key_with_one_byte_changed_never_matches(at in 0..KEY_CHARS, byte in any::<u8>()) {
            let key = key();
            let mut bytes = key.reveal().as_bytes().to_vec();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Some(other) = std::str::from_utf8(&bytes).ok().and_then(|t| ApiKey::parse(t).ok()) {
                prop_assert!(!other.digest().matches(&key.digest()));
            }
        }

        #[test]
        fn a_stored_digest_has_exactly_32_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(KeyDigest::from_slice(&bytes).is_some(), bytes.len() == 32);
        }
    }
}
