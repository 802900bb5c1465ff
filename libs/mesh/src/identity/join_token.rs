//! The text of a join token: `lmj1.<id>.<secret>.<pin>[.<pin>]`.
//!
//! The id finds it, the secret proves it, the pins are the SHA-256 of the roots that control leads to.

use super::Fingerprint;
use super::ROOTS_MAX;
use anyhow::Context as _;
use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt as _;
use std::fmt;

/// What every token begins with: what it is, for whoever finds one, and its form's version.
const PREFIX: &str = "lmj1";
/// How many random bytes an id has.
const ID_BYTES: usize = 8;
/// How many random bytes a secret has: more than can be guessed, so a fast hash of it keeps it.
const SECRET_BYTES: usize = 32;

/// A join token. Its secret is in no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names it.
    pub id: String,
    /// Proves it.
    pub secret: [u8; SECRET_BYTES],
    /// The roots that control leads to; at least one.
    pub pins: Vec<Fingerprint>,
}

impl JoinToken {
    /// A new one.
    #[must_use]
    pub fn generate(pins: Vec<Fingerprint>) -> Self {
        let id: [u8; ID_BYTES] = rand::rng().random();
        Self { id: hex::encode(id), secret: rand::rng().random(), pins }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is malformed; the text is not repeated.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let form = || format!("must be {PREFIX}.<id>.<secret>.<sha256 of a root>");
        let mut parts = text.split('.');
        ensure!(parts.next() == Some(PREFIX), form());
        let id = parts.next().with_context(form)?;
        let is_id = id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_id, form());
        let secret = URL_SAFE_NO_PAD.decode(parts.next().with_context(form)?).ok();
        let secret = secret.and_then(|bytes| bytes.try_into().ok()).with_context(form)?;
        let pins = parts.map(Fingerprint::parse).collect::<Result<Vec<_>, _>>()?;
        ensure!((1..=ROOTS_MAX).contains(&pins.len()), form());
        Ok(Self { id: id.to_owned(), secret, pins })
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{PREFIX}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret));
        for pin in &self.pins {
            text.push_str(&format!(".{pin}"));
        }
        text
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JoinToken")
            .field("id", &self.id)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_from_its_text() {
        let pins = vec![Fingerprint::of(b"one"), Fingerprint::of(b"two")];
        let token = JoinToken::generate(pins);
        assert_eq!(JoinToken::parse(&token.text()).unwrap(), token);
        assert_ne!(JoinToken::generate(token.pins.clone()).secret, token.secret);
    }

    #[test]
    fn a_malformed_token_is_refused_and_not_repeated() {
        let text = JoinToken::generate(vec![Fingerprint::of(b"one")]).text();
        let cut = &text[..text.len() - 1];
        for wrong in ["", "lmj1", &text[1..], cut, &format!("{text}.ab"), &text[..60]] {
            let error = JoinToken::parse(wrong).unwrap_err();
            assert!(!format!("{error:#}").contains(&text[22..40]), "{error:#}");
        }
    }
}
