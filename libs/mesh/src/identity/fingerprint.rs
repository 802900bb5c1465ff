//! The SHA-256 of a certificate: how roots are told apart, and how a join token pins them.

use anyhow::Context as _;
use aws_lc_rs::digest;
use std::fmt;

/// How many bytes a fingerprint has.
const BYTES: usize = 32;

/// The SHA-256 of a DER certificate; written in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; BYTES]);

impl Fingerprint {
    /// Of these bytes.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, der);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// If `text` is something else.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut bytes = [0; BYTES];
        hex::decode_to_slice(text, &mut bytes)
            .with_context(|| format!("`{text}` is no SHA-256: expected 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
