//! E-mail addresses: what is taken as one, and what makes two of them the same.

use super::Violation;

/// RFC 5321, section 4.5.3.1, less the angle brackets of a path.
const BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// What RFC 5322 lets stand in a local part without quotes, beside letters and digits.
const LOCAL_PUNCTUATION: &[u8] = b"!#$%&'*+-/=?^_`{|}~.";

/// An address that a mail can be sent to. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Email(String);

impl Email {
    /// Reads an address. None of its characters means anything in the head of a mail.
    pub(crate) fn parse(text: &str) -> Result<Self, Violation> {
        let refuse = |why: &str| Err(Violation::new("email", why));
        if text.is_empty() {
            return refuse("is required");
        }
        if text.len() > BYTES_MAX {
            return refuse("must have at most 254 bytes");
        }
        let Some((local, domain)) = text.rsplit_once('@') else {
            return refuse("must be an address, as ada@example.com");
        };
        let is_local = |byte: u8| byte.is_ascii_alphanumeric() || LOCAL_PUNCTUATION.contains(&byte);
        let dots_stand_between =
            !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        if local.is_empty()
            || local.len() > LOCAL_BYTES_MAX
            || !local.bytes().all(is_local)
            || !dots_stand_between
        {
            return refuse(
                "must have before its @ 1 to 64 ASCII letters, digits and !#$%&'*+-/=?^_`{|}~. without quotes",
            );
        }
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(is_label) {
            return refuse(
                "must have a domain after its @, in ASCII (an international one as xn--…)",
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was given: where mail goes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is looked up by. RFC 5321 lets a host tell local parts apart by case; none that matters does, and two accounts
    /// that differ in nothing else would be one person's.
    pub(crate) fn normalized(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl std::fmt::Debug for Email {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn an_address_is_one_whatever_its_case() {
        let email = Email::parse("Ada.Lovelace+x@Example.COM").unwrap();
        assert_eq!(email.as_str(), "Ada.Lovelace+x@Example.COM");
        assert_eq!(email.normalized(), "ada.lovelace+x@example.com");
        assert_eq!(format!("{email:?}"), "Email(…)");
        assert!(Email::parse("ada@localhost").is_ok());
    }

    #[test]
    fn what_is_no_address_or_could_break_a_mails_head_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}.com", "b".repeat(64));
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b c",
            "a@b\r\nbcc: c@d",
            "a\0@b",
            "<a@b>",
            "a,b@c",
            "\"a\"@b",
            "a@b..c",
            "a@-b",
            "a@[127.0.0.1]",
            ".a@b",
            "a.@b",
            "a..b@c",
            "ä@b",
            "a@ä.de",
            &long,
            &longer,
        ] {
            assert_eq!(Email::parse(text).unwrap_err().field, "email", "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_none_and_an_address_has_no_control_character(text in "\\PC{0,20}@?\\PC{0,20}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert!(email.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
