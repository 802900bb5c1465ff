//! Secrets that are sent once and used once, such as what a verification mail holds: `lmv_` and 32 characters.
//!
//! As of an API key, only the digest is kept: 160 bits from the operating system leave nothing to guess.

use std::fmt;

use aws_lc_rs::digest;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::api_key::ALPHABET;
use crate::{EntropyError, KeyDigest};

/// Characters after the scheme, 5 bits each: 160 bits.
const SECRET_CHARS: usize = 32;

const _: () = assert!(SECRET_CHARS * 5 >= 128, "a secret has at least 128 bits");

/// A whole token. `Debug` shows its scheme alone.
#[derive(Clone)]
pub struct Token {
    scheme: &'static str,
    text: Zeroizing<String>,
}

impl Token {
    /// A fresh token under a scheme, such as `lmv`. Fails only if the operating system has no entropy to give.
    pub fn generate(scheme: &'static str) -> Result<Self, EntropyError> {
        let mut random = Zeroizing::new([0; SECRET_CHARS]);
        SysRng
            .try_fill_bytes(random.as_mut_slice())
            .map_err(|error| EntropyError(error.to_string()))?;
        let mut text = Zeroizing::new(String::with_capacity(scheme.len() + 1 + SECRET_CHARS));
        text.push_str(scheme);
        text.push('_');
        // 256 is a multiple of 32, so every character is equally likely.
        text.extend(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])));
        Ok(Self { scheme, text })
    }

    /// Reads a token of this scheme as a client sent it; none if it is no such token.
    pub fn parse(scheme: &'static str, text: &str) -> Option<Self> {
        let secret = text.strip_prefix(scheme)?.strip_prefix('_')?;
        let is_whole = secret.len() == SECRET_CHARS;
        let is_ours = secret.bytes().all(|byte| ALPHABET.contains(&byte));
        (is_whole && is_ours).then(|| Self { scheme, text: Zeroizing::new(text.to_owned()) })
    }

    /// What is stored instead of the token: SHA-256 of all of it.
    pub fn digest(&self) -> KeyDigest {
        let hash = digest::digest(&digest::SHA256, self.text.as_bytes());
        KeyDigest::from_slice(hash.as_ref()).expect("SHA-256 has 32 bytes")
    }

    /// The whole token, for the one message that carries it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({}_…)", self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_under_its_scheme_alone_and_no_two_are_alike() {
        let token = Token::generate("lmv").unwrap();
        let read = Token::parse("lmv", token.reveal()).unwrap();
        assert!(read.digest().matches(&token.digest()));
        assert!(Token::parse("lmp", token.reveal()).is_none());
        assert!(!Token::generate("lmv").unwrap().digest().matches(&token.digest()));
        for text in ["", "lmv", "lmv_", "lmv_x", &format!("{}0", token.reveal()), "lmv_é"] {
            assert!(Token::parse("lmv", text).is_none(), "{text}");
        }
        assert_eq!(format!("{token:?}"), "Token(lmv_…)");
    }
}
