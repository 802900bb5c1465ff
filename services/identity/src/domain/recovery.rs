//! Recovery codes: `xxxx-xxxx-xxxx-xxxx`, 80 bits each, in an alphabet without look-alikes.

/// Codes of one set.
pub(crate) const CODES: usize = 10;
/// Random bytes of one code, of which each gives one character.
pub(crate) const CODE_BYTES: usize = 16;

/// Crockford's base 32 in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How a second factor is proved. `Debug` shows no code.
#[derive(Clone)]
pub(crate) enum Factor {
    Totp(String),
    Recovery(String),
}

impl std::fmt::Debug for Factor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Factor::Totp(_) => "Totp",
            Factor::Recovery(_) => "Recovery",
        })
    }
}

/// A code of random bytes.
pub(crate) fn code(random: [u8; CODE_BYTES]) -> String {
    let mut text = String::with_capacity(CODE_BYTES + 3);
    for (nth, byte) in random.into_iter().enumerate() {
        if nth > 0 && nth % 4 == 0 {
            text.push('-');
        }
        // 256 is a multiple of 32, so every character is equally likely.
        text.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    text
}

/// What a code is hashed as: people type it off a sheet of paper, with or without dashes, and in any case.
pub(crate) fn normalized(code: &str) -> String {
    let typed = code.chars().filter(|one| !one.is_whitespace() && *one != '-').take(64);
    typed.map(|one| one.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        let code = code([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 31, 255]);
        assert_eq!(code, "0123-4567-89ab-cdzz");
        assert_eq!(normalized(&code), normalized(" 01234567 89AB cDzZ "));
        assert_eq!(format!("{:?}", Factor::Recovery(code)), "Recovery");
    }
}
