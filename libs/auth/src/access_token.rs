//! Access tokens: JWTs by RFC 9068 (`typ: at+jwt`), signed with Ed25519, and the one place where they are checked.
//!
//! What must stay true (RFC 8725): the key decides the algorithm, never the token; nothing in a token's header leads to a
//! key but `kid`, which chooses among those that are trusted already; what claims to be critical is refused, since nothing
//! critical is known here; and no claim is read before the signature holds. Times come from the caller.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

/// The `typ` of an access token (RFC 9068, section 2.1), without which an ID token could pass for one.
const TYPE: &str = "at+jwt";
/// How far clocks may be apart, in seconds.
pub const SKEW_SECONDS: i64 = 60;
/// Bytes of a token: three times what one of ours measures.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Bytes of an Ed25519 public key.
const PUBLIC_KEY_BYTES: usize = 32;

/// What a token says, by the names that it is said under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// The user, as `usr_…`.
    pub sub: String,
    /// The session, as `ses_…`.
    pub sid: String,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Before when it is not valid, likewise.
    pub nbf: i64,
    /// From when on it is not valid, likewise.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
}

/// A private key that signs, with the id under which its public key is published.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    key: EncodingKey,
}

/// The public keys that are trusted, by id. A key is for one algorithm, Ed25519, and for no other.
#[derive(Clone, Default)]
pub struct TrustedKeys(HashMap<String, DecodingKey>);

/// What a token must say to be taken here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The issuer, to the letter.
    pub issuer: String,
    /// The audience, to the letter.
    pub audience: String,
}

/// Why a token is refused. Holds nothing of the token but, where another key may help, its id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT, or too long.
    #[error("the access token is no JWT of at most 2,048 bytes")]
    Form,
    /// Its header names another algorithm than its key's.
    #[error("the access token is not signed with EdDSA")]
    Algorithm,
    /// It is a JWT of another kind.
    #[error("the token's `typ` is not at+jwt: it is no access token")]
    Type,
    /// It has critical extensions.
    #[error("the access token has critical extensions, of which none is known")]
    Critical,
    /// No trusted key has its id.
    #[error("the access token is signed with an unknown key")]
    KeyUnknown(String),
    /// The signature is wrong.
    #[error("the access token's signature is wrong")]
    Signature,
    /// A claim is missing or is not of its type.
    #[error("the access token lacks a claim, or has one of a wrong type")]
    Claims,
    /// Someone else's.
    #[error("the access token is of another issuer or for another audience")]
    Elsewhere,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the access token is not valid yet")]
    Early,
}

impl SigningKey {
    /// A key from its PKCS#8 (version 1) form.
    pub fn from_pkcs8(kid: impl Into<String>, pkcs8: &[u8]) -> Self {
        Self { kid: kid.into(), key: EncodingKey::from_ed_der(pkcs8) }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key is not what it should be.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| TokenError::Signature)
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.kid)
    }
}

impl std::fmt::Debug for TrustedKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl TrustedKeys {
    /// Adds an Ed25519 public key; false if the bytes are none.
    pub fn insert(&mut self, kid: impl Into<String>, public_key: &[u8]) -> bool {
        if public_key.len() != PUBLIC_KEY_BYTES {
            return false;
        }
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(public_key);
        let Ok(key) = DecodingKey::from_ed_components(&encoded) else { return false };
        self.0.insert(kid.into(), key);
        true
    }

    /// Whether a key of this id is trusted.
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a token says, once it is proved; with the id of the key that proved it.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(
        &self,
        token: &str,
        expected: &Expected,
        now_seconds: i64,
    ) -> Result<(Claims, String), TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form);
        };
        let kid = header(head)?;
        let key = self.0.get(&kid).ok_or_else(|| TokenError::KeyUnknown(kid.clone()))?;
        let signed = &token[..head.len() + 1 + body.len()];
        // The key is Ed25519's alone, so no other algorithm can be meant, whatever the header would say.
        match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, Algorithm::EdDSA) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(TokenError::Signature),
        }
        let claims: Claims = decoded(body).ok_or(TokenError::Claims)?;
        let is_ours = claims.iss == expected.issuer && claims.aud == expected.audience;
        if !is_ours {
            return Err(TokenError::Elsewhere);
        }
        if now_seconds >= claims.exp.saturating_add(SKEW_SECONDS) {
            return Err(TokenError::Expired);
        }
        if now_seconds < claims.nbf.saturating_sub(SKEW_SECONDS) {
            return Err(TokenError::Early);
        }
        Ok((claims, kid))
    }
}

/// Checks a header and gives the key's id. What else it holds (`jku`, `x5u`, `jwk`, …) is not even read.
fn header(part: &str) -> Result<String, TokenError> {
    #[derive(Deserialize)]
    struct Head {
        alg: serde_json::Value,
        typ: Option<String>,
        kid: Option<String>,
        crit: Option<serde_json::Value>,
    }
    let head: Head = decoded(part).ok_or(TokenError::Form)?;
    if head.alg != "EdDSA" {
        return Err(TokenError::Algorithm);
    }
    if head.crit.is_some() {
        return Err(TokenError::Critical);
    }
    // RFC 7515, section 4.1.9: `application/` may be left out, and case does not matter.
    let typ = head.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
    if typ.strip_prefix("application/").unwrap_or(&typ) != TYPE {
        return Err(TokenError::Type);
    }
    head.kid.ok_or_else(|| TokenError::KeyUnknown(String::new()))
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests;
