//! One-time passwords by time: RFC 6238 as every authenticator app speaks it, with SHA-1, 30 seconds and six digits.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

/// Seconds of a time step (RFC 6238, section 5.2).
const STEP_SECONDS: i64 = 30;
/// Steps that a clock may be off, in both directions: the section recommends one.
const STEPS_OFF_MAX: i64 = 1;
const DIGITS: usize = 6;
/// Bytes of a secret: RFC 4226, section 4, recommends 160 bits.
pub(crate) const SECRET_BYTES: usize = 20;

/// The time step of a presented code, if it is right and newer than the last one that was taken.
pub(crate) fn step_of(
    secret: &[u8],
    presented: &str,
    now_seconds: i64,
    last_step: i64,
) -> Option<i64> {
    let current = now_seconds.div_euclid(STEP_SECONDS);
    let mut found = None;
    // All are looked at, whichever is right.
    for step in current - STEPS_OFF_MAX..=current + STEPS_OFF_MAX {
        let is_right: bool = code(secret, step).as_bytes().ct_eq(presented.as_bytes()).into();
        if is_right && step > last_step {
            found = Some(step);
        }
    }
    found
}

/// The code of a time step: RFC 4226, section 5.3.
fn code(secret: &[u8], step: i64) -> String {
    // SHA-1 is broken for collisions, not for HMAC, and authenticators know no other.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0xf);
    let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:0width$}", number % 1_000_000, width = DIGITS)
}

/// A secret as an authenticator takes it: base 32 (RFC 4648) without padding.
pub(crate) fn base32(secret: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(secret.len().div_ceil(5) * 8);
    for chunk in secret.chunks(5) {
        let mut bytes = [0_u8; 8];
        bytes[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(bytes);
        for nth in 0..(chunk.len() * 8).div_ceil(5) {
            let index = bits >> (35 - 5 * nth) & 31;
            text.push(char::from(ALPHABET[usize::try_from(index).expect("less than 32")]));
        }
    }
    text
}

/// The key URI that a QR code shows.
pub(crate) fn uri(secret: &[u8], account: &str) -> String {
    let account: String = account.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    });
    format!(
        "otpauth://totp/Linkmesh:{account}?secret={}&issuer=Linkmesh&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
        base32(secret)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, eight_digits) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(code(SECRET, seconds / STEP_SECONDS), &eight_digits[2..], "{seconds}");
        }
    }

    #[test]
    fn codes_are_those_of_rfc_4226() {
        let expected = ["755224", "287082", "359152", "969429", "338314", "254676"];
        for (step, expected) in (0..).zip(expected) {
            assert_eq!(code(SECRET, step), expected);
        }
    }

    #[test]
    fn a_code_is_taken_one_step_early_or_late_and_only_once() {
        let now = 1_111_111_111;
        let step = now / STEP_SECONDS;
        for (off, taken) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = step_of(SECRET, &code(SECRET, step + off), now, 0);
            assert_eq!(found, taken.then_some(step + off), "{off}");
        }
        assert_eq!(step_of(SECRET, &code(SECRET, step), now, step), None, "a replay");
        assert_eq!(step_of(SECRET, &code(SECRET, step - 1), now, step), None, "an older one");
        for wrong in ["", "12345", "1234567", "abcdef", "000000"] {
            assert_eq!(step_of(SECRET, wrong, now, 0), None, "{wrong}");
        }
    }

    #[test]
    fn base_32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let uri = uri(SECRET, "a b@c");
        assert!(
            uri.starts_with(
                "otpauth://totp/Linkmesh:a%20b%40c?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&"
            ),
            "{uri}"
        );
    }
}
