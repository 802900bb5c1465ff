//! Domains that links live on, and the hosts that name them.

use std::fmt;

use jiff::Timestamp;
use rpc::WorkspaceId;

use super::Violation;

/// What a host measures at most, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// What one of its labels measures at most, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// A host in the one form that is stored and compared: lower case, ASCII, without port or trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Host(String);

impl Host {
    /// Reads a host that a caller registers: a name of two labels or more, in any case, Unicode or ASCII.
    pub(crate) fn parse(field: &'static str, text: &str) -> Result<Self, Violation> {
        let host = Self::parse_any(field, text)?;
        if !host.0.contains('.') || host.0.parse::<std::net::IpAddr>().is_ok() {
            return Err(Violation::new(field, "must be a domain name such as `go.example.com`"));
        }
        Ok(host)
    }

    /// Reads a host that the operator configures, which may also be `localhost` or an IPv4 address.
    pub(crate) fn parse_any(field: &'static str, text: &str) -> Result<Self, Violation> {
        let refuse = |why: String| Err(Violation::new(field, why));
        if text.is_empty() {
            return refuse("is required".to_owned());
        }
        if text.len() > HOST_BYTES_MAX {
            let bytes = text.len();
            return refuse(format!("must have at most {HOST_BYTES_MAX} bytes, has {bytes}"));
        }
        super::without_control(field, text)?;
        let ascii = match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) => name,
            Ok(url::Host::Ipv4(address)) => address.to_string(),
            Ok(url::Host::Ipv6(_)) => return refuse("must not be an IPv6 address".to_owned()),
            Err(error) => return refuse(format!("must be a host without scheme or port: {error}")),
        };
        if ascii.len() > HOST_BYTES_MAX {
            let bytes = ascii.len();
            return refuse(format!(
                "must have at most {HOST_BYTES_MAX} bytes in ASCII, has {bytes}"
            ));
        }
        let wrong = |label: &&str| {
            label.is_empty()
                || label.len() > LABEL_BYTES_MAX
                || label.starts_with('-')
                || label.ends_with('-')
                || !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if let Some(label) = ascii.split('.').find(wrong) {
            return refuse(format!(
                "must have labels of 1 to {LABEL_BYTES_MAX} letters, digits and inner hyphens, has `{label}`"
            ));
        }
        Ok(Self(ascii))
    }

    /// A host as the store holds it.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As stored and compared.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A registered domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub host: Host,
    /// Whose it is; `None` for the one that all workspaces share.
    pub workspace: Option<WorkspaceId>,
    /// Whether `Sale` and `sale` are two slugs. Never changes.
    pub case_sensitive: bool,
    pub create_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_stored_in_one_form() {
        for (text, stored) in [
            ("go.example.com", "go.example.com"),
            ("GO.Example.COM", "go.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(Host::parse("host", text).expect(text).as_str(), stored);
        }
        assert_eq!(
            Host::parse_any("shared_domain", "localhost").expect("one label").as_str(),
            "localhost"
        );
        assert_eq!(
            Host::parse_any("shared_domain", "127.0.0.1").expect("IPv4").as_str(),
            "127.0.0.1"
        );
    }

    #[test]
    fn what_is_no_domain_name_is_refused_with_the_reason() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long = format!("{}com", "a.".repeat(126));
        let cases = [
            ("", "is required"),
            ("localhost", "domain name"),
            ("127.0.0.1", "domain name"),
            ("[::1]", "IPv6"),
            ("https://example.com", "without scheme or port"),
            ("example.com:80", "without scheme or port"),
            ("example.com/path", "without scheme or port"),
            ("a b.com", "without scheme or port"),
            ("a\r\n.com", "control characters"),
            ("-a.com", "labels"),
            ("a_b.com", "labels"),
            ("a..com", "labels"),
            ("example.com.", "labels"),
            ("*.example.com", "labels"),
            (&long_label, "labels"),
            (&long, "at most 253 bytes, has 255"),
        ];
        for (text, part) in cases {
            let violation = Host::parse("host", text).expect_err(text);
            assert_eq!(violation.field, "host");
            assert!(violation.why.contains(part), "{text:?}: {}", violation.why);
        }
    }
}
