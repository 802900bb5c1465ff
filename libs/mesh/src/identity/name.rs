//! The name of a service, as certificates and access lists say it.

use anyhow::ensure;
use std::fmt;
use std::sync::Arc;

/// The longest service name, in bytes: a DNS label's limit.
const NAME_BYTES_MAX: usize = 63;

/// A service's name: 1 to 63 of `a-z 0-9 -`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Reads a name.
    ///
    /// # Errors
    /// If it is not of the form above.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        ensure!(
            well_formed,
            "service name `{text}`: must be 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, beginning with a letter"
        );
        Ok(Self(text.into()))
    }

    /// A name that this crate gives.
    pub(super) fn fixed(name: &'static str) -> Self {
        Self(name.into())
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a DNS name, for stock clients.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.linkmesh.internal", self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        assert_eq!(ServiceName::parse("links").unwrap().dns_name(), "links.linkmesh.internal");
        for text in ["", "Links", "2links", "links.internal", "li/nks", &"a".repeat(64)] {
            assert!(ServiceName::parse(text).is_err(), "{text}");
        }
    }
}
