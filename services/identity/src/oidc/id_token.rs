//! ID tokens: OpenID Connect Core 1.0, section 3.1.3.7.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq as _;

/// How far clocks may be apart, in seconds.
const SKEW_SECONDS: u64 = 60;
/// Bytes of an ID token: some providers put a person's groups into them.
const TOKEN_BYTES_MAX: usize = 32 << 10;
/// Bytes of a subject (section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// What a token must say.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
}

/// What it says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    aud: Audiences,
    azp: Option<String>,
    nonce: Option<String>,
    pub(super) email: Option<String>,
    #[serde(default, deserialize_with = "truth")]
    pub(super) email_verified: bool,
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// Some providers say "true".
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value == serde_json::Value::Bool(true) || value == "true")
}

/// Reads a token's header. Nothing in it leads to a key but `kid`.
pub(super) fn header(token: &str) -> Result<Header, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("its ID token has more than 32 KiB");
    }
    // An algorithm that is not known, `none` among them, is no header.
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| "its ID token is no JWT, or is signed with an unknown algorithm")?;
    if header.crit.is_some() {
        return Err("its ID token has critical extensions, of which none is known");
    }
    Ok(header)
}

/// What a token says, if it is for us, from this sign-in, and signed with the key.
pub(super) fn verify(
    token: &str,
    header: &Header,
    key: &Jwk,
    expected: &Expected<'_>,
) -> Result<Claims, &'static str> {
    let algorithm = algorithm_of(key).ok_or("its key is for no algorithm that is taken here")?;
    if header.alg != algorithm {
        return Err("its ID token is signed with another algorithm than its key is for");
    }
    let mut validation = Validation::new(algorithm);
    validation.leeway = SKEW_SECONDS;
    validation.validate_nbf = true;
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).map_err(|_| "its key can't be used")?;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation);
    let claims = decoded.map_err(|error| reason(&error))?.claims;
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    let is_ours: bool = nonce.as_bytes().ct_eq(expected.nonce.as_bytes()).into();
    if !is_ours {
        return Err("its ID token is of another sign-in (nonce)");
    }
    // Step 4 and 5: of more than one audience it has to be said for which it is, and what is said must be us.
    let party = match (&claims.azp, &claims.aud) {
        (Some(azp), _) => Some(azp.as_str()),
        (None, Audiences::One(only)) => Some(only.as_str()),
        (None, Audiences::Many(all)) if all.len() == 1 => Some(all[0].as_str()),
        (None, Audiences::Many(_)) => None,
    };
    if party != Some(expected.client_id) {
        return Err("its ID token is for another client (azp)");
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX {
        return Err("its ID token names no subject of 1 to 255 bytes");
    }
    Ok(claims)
}

/// The one algorithm that a key is for. Never one with a shared secret.
fn algorithm_of(key: &Jwk) -> Option<Algorithm> {
    if let AlgorithmParameters::RSA(_) = &key.algorithm {
        return Some(Algorithm::RS256);
    }
    if let AlgorithmParameters::EllipticCurve(of) = &key.algorithm {
        return (of.curve == EllipticCurve::P256).then_some(Algorithm::ES256);
    }
    if let AlgorithmParameters::OctetKeyPair(of) = &key.algorithm {
        return (of.curve == EllipticCurve::Ed25519).then_some(Algorithm::EdDSA);
    }
    None
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    let known = [
        (ErrorKind::InvalidSignature, "its ID token's signature is wrong"),
        (ErrorKind::ExpiredSignature, "its ID token has expired"),
        (ErrorKind::ImmatureSignature, "its ID token is not valid yet"),
        (ErrorKind::InvalidIssuer, "its ID token is of another issuer"),
        (ErrorKind::InvalidAudience, "its ID token is for another client"),
    ];
    let found = known.iter().find(|(kind, _)| kind == error.kind());
    found.map_or("its ID token lacks a claim, or has one of a wrong type", |(_, why)| why)
}
