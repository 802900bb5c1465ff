//! Rules R44 and R45 of the edge: what a token may be signed with, and what it must say.

use super::*;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::encode;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

struct Issuer {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

fn issuer() -> Issuer {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.as_ref()).unwrap();
    Issuer { public: pair.public_key().as_ref().to_vec(), pkcs8: pkcs8.as_ref().to_vec() }
}

fn claims() -> Claims {
    Claims {
        iss: "linkmesh".to_owned(),
        aud: "linkmesh".to_owned(),
        sub: "usr_1".to_owned(),
        sid: "ses_1".to_owned(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 600,
        jti: "1".to_owned(),
    }
}

fn expected() -> Expected {
    Expected { issuer: "linkmesh".to_owned(), audience: "linkmesh".to_owned() }
}

fn trusting(issuer: &Issuer) -> TrustedKeys {
    let mut keys = TrustedKeys::default();
    assert!(keys.insert("k1", &issuer.public));
    keys
}

/// A token with any header, signed with the issuer's key over exactly these bytes.
fn signed(issuer: &Issuer, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&issuer.pkcs8).unwrap();
    let signature = pair.sign(message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn good_header() -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"})
}

fn verdict(issuer: &Issuer, header: &Value, claims: &Value) -> Option<TokenError> {
    trusting(issuer).verify(&signed(issuer, header, claims), &expected(), NOW).err()
}

#[test]
fn a_token_that_was_signed_says_what_it_said() {
    let issuer = issuer();
    let token = SigningKey::from_pkcs8("k1", &issuer.pkcs8).sign(&claims()).unwrap();
    let verified = trusting(&issuer).verify(&token, &expected(), NOW).unwrap();
    assert_eq!(verified, (claims(), "k1".to_owned()));
}

#[test]
fn r44_no_algorithm_but_the_keys_own_is_taken_none_least_of_all() {
    let issuer = issuer();
    let body = serde_json::to_value(claims()).unwrap();
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "eddsa", "ED25519",
    ] {
        let mut header = good_header();
        header["alg"] = json!(alg);
        assert_eq!(verdict(&issuer, &header, &body), Some(TokenError::Algorithm), "{alg}");
        let token = signed(&issuer, &header, &body);
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        let refused = trusting(&issuer).verify(&unsigned, &expected(), NOW);
        assert_eq!(refused, Err(TokenError::Algorithm), "{alg} without a signature");
    }
    for odd in [json!(null), json!(["EdDSA"]), json!({"EdDSA": 1})] {
        let mut header = good_header();
        header["alg"] = odd.clone();
        assert_eq!(verdict(&issuer, &header, &body), Some(TokenError::Algorithm), "{odd}");
    }
    let token = signed(&issuer, &good_header(), &body);
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    assert_eq!(trusting(&issuer).verify(&unsigned, &expected(), NOW), Err(TokenError::Signature));
}

#[test]
fn r44_a_public_key_is_no_hmac_secret_in_any_of_its_encodings() {
    let issuer = issuer();
    // SubjectPublicKeyInfo of RFC 8410: a fixed head, then the key.
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(&issuer.public);
    let text = base64::engine::general_purpose::STANDARD.encode(&spki);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    for (encoding, secret) in
        [("raw", issuer.public.clone()), ("DER", spki), ("PEM", pem.into_bytes())]
    {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some("k1".to_owned());
        let forged = encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        let refused = trusting(&issuer).verify(&forged, &expected(), NOW);
        assert_eq!(refused, Err(TokenError::Algorithm), "{encoding}");
        // The same MAC under a header that lies.
        let lying = BASE64_URL_SAFE_NO_PAD.encode(good_header().to_string());
        let rest = forged.split_once('.').unwrap().1;
        let refused = trusting(&issuer).verify(&format!("{lying}.{rest}"), &expected(), NOW);
        assert_eq!(refused, Err(TokenError::Signature), "{encoding}");
    }
}

#[test]
fn r44_a_header_leads_to_no_key_of_its_own() {
    let (ours, theirs) = (issuer(), issuer());
    let body = serde_json::to_value(claims()).unwrap();
    let mut header = good_header();
    header["jku"] = json!("https://evil.example/jwks.json");
    header["x5u"] = json!("https://evil.example/cert.pem");
    header["x5c"] = json!(["AAAA"]);
    let x = BASE64_URL_SAFE_NO_PAD.encode(&theirs.public);
    header["jwk"] = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1"});
    let forged = signed(&theirs, &header, &body);
    assert_eq!(trusting(&ours).verify(&forged, &expected(), NOW), Err(TokenError::Signature));
    assert_eq!(verdict(&ours, &header, &body), None, "they are ignored");

    for (kid, refused) in [(json!("k2"), "k2"), (json!(null), ""), (json!("../k1"), "../k1")] {
        let mut header = good_header();
        header["kid"] = kid;
        let error = TokenError::KeyUnknown(refused.to_owned());
        assert_eq!(verdict(&ours, &header, &body), Some(error));
    }
}

#[test]
fn r44_what_claims_to_be_critical_is_refused() {
    let issuer = issuer();
    let body = serde_json::to_value(claims()).unwrap();
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("x"), json!(1)] {
        let mut header = good_header();
        header["crit"] = crit.clone();
        assert_eq!(verdict(&issuer, &header, &body), Some(TokenError::Critical), "{crit}");
    }
}

#[test]
fn r45_a_token_is_of_our_type_issuer_and_audience() {
    let issuer = issuer();
    let body = serde_json::to_value(claims()).unwrap();
    for (typ, taken) in [
        (json!("at+jwt"), true),
        (json!("application/at+jwt"), true),
        (json!("AT+JWT"), true),
        (json!("JWT"), false),
        (json!("id+jwt"), false),
        (json!(null), false),
    ] {
        let mut header = good_header();
        header["typ"] = typ.clone();
        let refused = (!taken).then_some(TokenError::Type);
        assert_eq!(verdict(&issuer, &header, &body), refused, "{typ}");
    }
    for (claim, value, error) in [
        ("iss", json!("linkmesh/"), TokenError::Elsewhere),
        ("iss", json!("Linkmesh"), TokenError::Elsewhere),
        ("aud", json!("other"), TokenError::Elsewhere),
        ("aud", json!(["linkmesh"]), TokenError::Claims),
        ("sub", json!(null), TokenError::Claims),
        ("exp", json!("tomorrow"), TokenError::Claims),
        ("exp", json!(1e300), TokenError::Claims),
    ] {
        let mut changed = body.clone();
        changed[claim] = value.clone();
        assert_eq!(verdict(&issuer, &good_header(), &changed), Some(error), "{claim} {value}");
    }
    for claim in ["iss", "aud", "sub", "sid", "exp", "nbf", "iat"] {
        let mut without = body.clone();
        without.as_object_mut().unwrap().remove(claim);
        let refused = verdict(&issuer, &good_header(), &without);
        assert_eq!(refused, Some(TokenError::Claims), "without {claim}");
    }
}

#[test]
fn r45_clocks_may_be_a_minute_apart_and_no_more() {
    let issuer = issuer();
    let keys = trusting(&issuer);
    let token = SigningKey::from_pkcs8("k1", &issuer.pkcs8).sign(&claims()).unwrap();
    let at = |now| keys.verify(&token, &expected(), now).err();
    assert_eq!(at(NOW - 60), None);
    assert_eq!(at(NOW - 61), Some(TokenError::Early));
    assert_eq!(at(NOW + 600 + 59), None);
    assert_eq!(at(NOW + 600 + 60), Some(TokenError::Expired));
}

#[test]
fn what_is_no_jwt_or_is_too_long_is_refused() {
    let issuer = issuer();
    let keys = trusting(&issuer);
    let token = SigningKey::from_pkcs8("k1", &issuer.pkcs8).sign(&claims()).unwrap();
    for text in ["", ".", "..", "a.b", "a.b.c.d", &format!("{token}."), &"a".repeat(2_049), "é.é.é"]
    {
        assert_eq!(keys.verify(text, &expected(), NOW), Err(TokenError::Form), "{text}");
    }
    assert!(!TrustedKeys::default().insert("k", &[0; 31]));
}

proptest! {
    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), to in 0x20_u8..0x7f) {
        let issuer = issuer();
        let token = SigningKey::from_pkcs8("k1", &issuer.pkcs8).sign(&claims()).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(trusting(&issuer).verify(&changed, &expected(), NOW).is_err());
    }
}
