//! Which passwords are taken.

use super::{Email, Violation};

/// NIST SP 800-63B-4, section 3.1.1.2: 15 where a password may be the only factor.
const CHARS_MIN: usize = 15;
/// Bytes of a password: the same section wants 64 characters at least to be taken.
pub(crate) const PASSWORD_BYTES_MAX: usize = 256;
/// Different characters of a password. Stands for a list of common ones: of such a list few have 15 characters.
const DISTINCT_MIN: usize = 5;

/// Checks a new password for the account of an address.
pub(crate) fn new_password(
    field: &'static str,
    password: &str,
    email: &Email,
) -> Result<(), Violation> {
    let refuse = |why: &str| Err(Violation::new(field, why));
    let mut seen: Vec<char> = password.chars().collect();
    if seen.len() < CHARS_MIN {
        return refuse("must have at least 15 characters");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return refuse("must have at most 256 bytes");
    }
    seen.sort_unstable();
    seen.dedup();
    if seen.len() < DISTINCT_MIN {
        return refuse("must have at least 5 different characters");
    }
    let lower = password.to_lowercase();
    if lower.contains(&email.normalized()) {
        return refuse("must not contain the e-mail address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_long_enough_varied_and_not_the_address() {
        let email = Email::parse("ada@example.com").unwrap();
        let check = |password: &str| new_password("password", password, &email);
        assert_eq!(check("correct horse battery"), Ok(()));
        assert_eq!(check("пароль пароль пароль"), Ok(()));
        for (password, why) in [
            ("", "at least 15"),
            ("short", "at least 15"),
            ("aaaaaaaaaaaaaaaaaaaa", "5 different"),
            ("My Ada@Example.com!", "e-mail address"),
            (&"abcdefgh".repeat(33), "at most 256"),
        ] {
            let violation = check(password).unwrap_err();
            assert!(violation.why.contains(why), "{password}: {}", violation.why);
        }
    }
}
