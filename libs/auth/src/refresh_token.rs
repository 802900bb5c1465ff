//! Refresh tokens: `lmr_` and the base 64 of session, secret and tag.
//!
//! The tag is a keyed hash of the rest by whoever issues the token. It proves that a token was issued once, whatever became
//! of it since: so an old one is told from one that somebody made up, for ever, and nothing has to be kept of old ones. It
//! does not make a token valid: only the digest of the session's newest token does.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{EntropyError, KeyDigest};

const SCHEME: &str = "lmr_";
const SESSION_BYTES: usize = 16;
/// 160 bits from the operating system.
const SECRET_BYTES: usize = 20;
/// 128 bits of HMAC-SHA-256.
const TAG_BYTES: usize = 16;
const SIGNED_BYTES: usize = SESSION_BYTES + SECRET_BYTES;
const TOKEN_BYTES: usize = SIGNED_BYTES + TAG_BYTES;

/// A refresh token. `Debug` shows none of it.
#[derive(Clone)]
pub struct RefreshToken {
    bytes: Zeroizing<[u8; TOKEN_BYTES]>,
}

impl RefreshToken {
    /// A fresh token of a session; `tag` is the issuer's keyed hash. Fails only without entropy.
    pub fn issue(
        session: &[u8; SESSION_BYTES],
        tag: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<Self, EntropyError> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        bytes[..SESSION_BYTES].copy_from_slice(session);
        SysRng
            .try_fill_bytes(&mut bytes[SESSION_BYTES..SIGNED_BYTES])
            .map_err(|error| EntropyError(error.to_string()))?;
        let tag = tag(&bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        Ok(Self { bytes })
    }

    /// Reads a token as a client sent it; none unless its tag proves that it was issued.
    pub fn parse(text: &str, tag: impl Fn(&[u8]) -> [u8; 32]) -> Option<Self> {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix(SCHEME)?).ok()?;
        let decoded = Zeroizing::new(decoded);
        let bytes: [u8; TOKEN_BYTES] = decoded.as_slice().try_into().ok()?;
        let bytes = Zeroizing::new(bytes);
        let expected = tag(&bytes[..SIGNED_BYTES]);
        let is_ours: bool = bytes[SIGNED_BYTES..].ct_eq(&expected[..TAG_BYTES]).into();
        is_ours.then_some(Self { bytes })
    }

    /// The id of the session that it belongs, or belonged, to.
    pub fn session(&self) -> [u8; SESSION_BYTES] {
        let mut session = [0; SESSION_BYTES];
        session.copy_from_slice(&self.bytes[..SESSION_BYTES]);
        session
    }

    /// What is stored instead of the token: SHA-256 of all of it.
    pub fn digest(&self) -> KeyDigest {
        let hash = digest::digest(&digest::SHA256, self.bytes.as_slice());
        KeyDigest::from_slice(hash.as_ref()).expect("SHA-256 has 32 bytes")
    }

    /// The whole token, for the one answer that shows it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{SCHEME}{}", BASE64_URL_SAFE_NO_PAD.encode(self.bytes.as_slice())))
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RefreshToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn tag(bytes: &[u8]) -> [u8; 32] {
        let hash = digest::digest(&digest::SHA256, &[b"the key", bytes].concat());
        hash.as_ref().try_into().unwrap()
    }

    #[test]
    fn a_token_reads_back_and_names_its_session() {
        let token = RefreshToken::issue(&[7; 16], tag).unwrap();
        let read = RefreshToken::parse(&token.reveal(), tag).unwrap();
        assert_eq!(read.session(), [7; 16]);
        assert!(read.digest().matches(&token.digest()));
        let other = RefreshToken::issue(&[7; 16], tag).unwrap();
        assert!(!other.digest().matches(&token.digest()));
        assert_eq!(format!("{token:?}"), "RefreshToken(…)");
        assert!(RefreshToken::parse(&token.reveal(), |_| [0; 32]).is_none(), "another issuer's");
    }

    proptest! {
        #[test]
        fn a_token_that_was_changed_anywhere_was_never_issued(at in 0..TOKEN_BYTES, bit in 0..8_u8) {
            let mut token = RefreshToken::issue(&[7; 16], tag).unwrap();
            token.bytes[at] ^= 1 << bit;
            prop_assert!(RefreshToken::parse(&token.reveal(), tag).is_none());
        }

        #[test]
        fn any_text_is_a_token_or_none(text in "(lmr_)?[A-Za-z0-9_-]{0,90}") {
            prop_assert!(RefreshToken::parse(&text, tag).is_none());
        }
    }
}
