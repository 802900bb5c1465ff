//! Destinations: where a link leads.
//!
//! A destination can be written into a `Location` header as it is: absolute, http or https, ASCII once canonical, without
//! control characters, and bounded.

use url::Url;

use super::{Utm, Violation};

/// What a destination measures at most, in bytes, as given and in its canonical form.
pub(crate) const DESTINATION_BYTES_MAX: usize = 2_048;

/// A checked destination. That its host is no link domain is for the store to say, which knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    given: String,
    canonical: Url,
}

impl Destination {
    /// Reads the destination that a caller wrote into `field`.
    pub(crate) fn parse(field: &'static str, text: &str) -> Result<Self, Violation> {
        let refuse = |why: String| Err(Violation::new(field, why));
        if text.is_empty() {
            return refuse("is required".to_owned());
        }
        if text.len() > DESTINATION_BYTES_MAX {
            let bytes = text.len();
            return refuse(format!("must have at most {DESTINATION_BYTES_MAX} bytes, has {bytes}"));
        }
        // Before the parser, which drops tabs and line ends in silence.
        super::without_control(field, text)?;
        if text.starts_with(' ') || text.ends_with(' ') {
            return refuse("must not begin or end with a space".to_owned());
        }
        let canonical = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                return refuse(format!("must be an absolute http or https URI: {error}"));
            }
        };
        if !matches!(canonical.scheme(), "http" | "https") {
            let scheme = canonical.scheme();
            return refuse(format!("must be an absolute http or https URI, has scheme `{scheme}`"));
        }
        // The parser adds what is missing.
        if !text[canonical.scheme().len()..].starts_with("://") {
            return refuse(
                "must be an absolute http or https URI, with `//` before its host".to_owned(),
            );
        }
        if canonical.host_str().is_none_or(str::is_empty) {
            return refuse("must name a host".to_owned());
        }
        if !canonical.username().is_empty() || canonical.password().is_some() {
            return refuse("must not contain a user name or password".to_owned());
        }
        let bytes = canonical.as_str().len();
        if bytes > DESTINATION_BYTES_MAX {
            return refuse(format!(
                "must have at most {DESTINATION_BYTES_MAX} bytes once percent-encoded, has {bytes}"
            ));
        }
        Ok(Self { given: text.to_owned(), canonical })
    }

    /// As the caller wrote it.
    pub(crate) fn as_given(&self) -> &str {
        &self.given
    }

    /// Its host as the registry of domains spells hosts: lower case, ASCII, without a trailing dot.
    pub(crate) fn host(&self) -> &str {
        self.canonical.host_str().map_or("", |host| host.trim_end_matches('.'))
    }

    /// What goes into `Location`: canonical, with the parameters in its query.
    pub(crate) fn with_utm(&self, utm: &Utm) -> String {
        utm.merged_into(&self.canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn why(text: &str) -> String {
        Destination::parse("destination_uri", text).expect_err(text).why
    }

    #[test]
    fn what_can_be_redirected_to_is_kept_as_given() {
        for text in [
            "https://example.com",
            "http://example.com:8080/a?b=c#d",
            "https://bücher.example/straße",
            "https://192.0.2.1/",
            "https://[2001:db8::1]/x",
            "https://example.com/?next=https%3A%2F%2Fother.example",
        ] {
            let destination = Destination::parse("destination_uri", text).expect(text);
            assert_eq!(destination.as_given(), text);
            assert!(destination.with_utm(&Utm::default()).is_ascii());
        }
    }

    #[test]
    fn what_can_not_is_refused_with_the_reason() {
        let cases = [
            ("", "is required"),
            ("/relative", "absolute http or https"),
            ("example.com", "absolute http or https"),
            ("ftp://example.com", "scheme `ftp`"),
            ("javascript:alert(1)", "scheme `javascript`"),
            ("data:text/html,x", "scheme `data`"),
            ("https://", "absolute http or https"),
            ("https:example.com", "`//` before its host"),
            ("http:/example.com", "`//` before its host"),
            ("https://user@example.com", "user name"),
            ("https://user:password@example.com", "user name"),
            ("https://example.com/\r\nset-cookie: a=b", "control characters, has '\\r' at byte 20"),
            ("https://exam\tple.com/", "control characters"),
            ("https://example.com/\0", "control characters"),
            (" https://example.com/", "space"),
            ("https://exa mple.com/", "absolute http or https"),
            ("https://example.com:99999/", "absolute http or https"),
        ];
        for (text, part) in cases {
            let why = why(text);
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }

    #[test]
    fn the_length_is_limited_as_given_and_once_encoded() {
        let fits = format!("https://example.com/{}", "a".repeat(2_028));
        assert_eq!(fits.len(), 2_048);
        assert!(Destination::parse("destination_uri", &fits).is_ok());
        assert!(why(&format!("{fits}a")).contains("at most 2048 bytes, has 2049"));
        let grows = format!("https://example.com/{}", "ü".repeat(1_000));
        assert!(why(&grows).contains("once percent-encoded"));
    }

    #[test]
    fn a_host_is_compared_as_domains_are_spelled() {
        for (text, host) in [
            ("https://GO.Example.COM./x", "go.example.com"),
            ("https://go.example.com:444", "go.example.com"),
            ("https://BÜCHER.example", "xn--bcher-kva.example"),
        ] {
            let destination = Destination::parse("destination_uri", text).expect(text);
            assert_eq!(destination.host(), host);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_a_single_bounded_header_value(text in "https?://[^/]{0,20}\\PC{0,80}") {
            if let Ok(destination) = Destination::parse("destination_uri", &text) {
                let location = destination.with_utm(&Utm::default());
                prop_assert!(location.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
                prop_assert!(location.len() <= DESTINATION_BYTES_MAX);
            }
        }
    }
}
