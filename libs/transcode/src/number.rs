//! Numbers as ProtoJSON writes them: integers exactly, in any form that JSON has (`7`, `7.0`, `70e-1`), and floats.

use crate::scan;

/// Why a text is no value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// A signed integer of at most 64 bits.
pub(crate) fn signed(text: &str, bits: u32) -> Result<i64, Refused> {
    let (is_negative, magnitude) = integer(text)?;
    let bound = 1_u64 << (bits - 1);
    match (is_negative, magnitude) {
        (false, magnitude) if magnitude < bound => Ok(magnitude.cast_signed()),
        (true, magnitude) if magnitude <= bound => Ok(magnitude.wrapping_neg().cast_signed()),
        _ => Err(Refused),
    }
}

/// An unsigned integer of at most 64 bits.
pub(crate) fn unsigned(text: &str, bits: u32) -> Result<u64, Refused> {
    let (is_negative, magnitude) = integer(text)?;
    let is_in_range = magnitude <= u64::MAX >> (64 - bits) && !(is_negative && magnitude > 0);
    if is_in_range { Ok(magnitude) } else { Err(Refused) }
}

/// The key of a map, which has one form only: `-` and digits, without a leading zero.
pub(crate) fn is_key(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    !digits.is_empty() && !is_padded && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Sign and magnitude of a JSON number that is an integer.
fn integer(text: &str) -> Result<(bool, u64), Refused> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_negative = digits.len() < text.len();
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    // Up to nineteen digits can't overflow, and hardly any number is otherwise.
    if (1..=19).contains(&digits.len()) && !is_padded {
        let mut magnitude = 0;
        for byte in digits.bytes() {
            if !byte.is_ascii_digit() {
                return unusual(text, is_negative);
            }
            magnitude = magnitude * 10 + u64::from(byte - b'0');
        }
        return Ok((is_negative, magnitude));
    }
    unusual(text, is_negative)
}

/// With a fraction, an exponent or more than nineteen digits: digits times a power of ten.
fn unusual(text: &str, is_negative: bool) -> Result<(bool, u64), Refused> {
    if !is_number(text) {
        return Err(Refused);
    }
    let unsigned = text.trim_start_matches('-');
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    if digits.clone().all(|digit| digit == b'0') {
        return Ok((is_negative, 0));
    }
    // What exceeds an i32 is beyond any integer, with at most a few million digits before it.
    let exponent: i32 = exponent.parse().map_err(|_| Refused)?;
    let scale = i64::from(exponent) - i64::try_from(fraction.len()).map_err(|_| Refused)?;
    let count = digits.clone().count();
    let zeros = digits.clone().rev().take_while(|digit| *digit == b'0').count();
    let scale = scale + i64::try_from(zeros).map_err(|_| Refused)?;
    if !(0..=20).contains(&scale) {
        return Err(Refused);
    }
    let mut magnitude = 0_u64;
    for digit in digits.take(count - zeros).chain((0..scale).map(|_| b'0')) {
        let value = u64::from(digit - b'0');
        magnitude = magnitude.checked_mul(10).and_then(|m| m.checked_add(value)).ok_or(Refused)?;
    }
    Ok((is_negative, magnitude))
}

/// Whether a text is one JSON number, whole.
pub(crate) fn is_number(text: &str) -> bool {
    scan::number_length(text.as_bytes()) == Some(text.len())
}

/// A finite number, or one of the three that are none.
pub(crate) fn double(text: &str) -> Result<f64, Refused> {
    finite(text.parse().map_err(|_| Refused)?, text)
}

/// As [`double`], rounded once.
pub(crate) fn float(text: &str) -> Result<f32, Refused> {
    let value: f32 = text.parse().map_err(|_| Refused)?;
    finite(f64::from(value), text).map(|_| value)
}

/// What is too large is an error, not infinity.
fn finite(value: f64, text: &str) -> Result<f64, Refused> {
    if value.is_finite() && is_number(text) { Ok(value) } else { Err(Refused) }
}

/// The floats that stand in JSON as text.
pub(crate) fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_integers_are_taken_in_every_form_of_a_json_number_and_exactly() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("1.0", Some(1)),
            ("1e2", Some(100)),
            ("-12.50e1", Some(-125)),
            ("1000E-3", Some(1)),
            ("0e999999999999", Some(0)),
            ("0.000", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775807.0", Some(i64::MAX)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("1.5", None),
            ("1e-1", None),
            ("1e19", None),
            ("1e999999999999", None),
            ("", None),
            ("-", None),
            ("+1", None),
            (" 1", None),
            ("01", None),
            ("1_0", None),
            ("0x1", None),
            ("NaN", None),
        ] {
            assert_eq!(signed(text, 64).ok(), value, "`{text}`");
        }
        assert_eq!(unsigned("18446744073709551615", 64), Ok(u64::MAX));
        assert_eq!(unsigned("18446744073709551616", 64), Err(Refused));
        assert_eq!(unsigned("-0", 64), Ok(0));
        assert_eq!((unsigned("-1", 64), unsigned("4294967296", 32)), (Err(Refused), Err(Refused)));
        assert_eq!(
            (signed("2147483647", 32), signed("2147483648", 32)),
            (Ok(i64::from(i32::MAX)), Err(Refused))
        );
        assert_eq!(signed("-2147483648", 32), Ok(i64::from(i32::MIN)));
    }

    #[test]
    fn r17_floats_are_finite_numbers_or_one_of_three_words() {
        assert_eq!(double("1e308"), Ok(1e308));
        assert!(double("-0").is_ok_and(|zero| zero.is_sign_negative()));
        for text in ["1e309", "inf", "nan", "NaN", "infinity", "1.", ".5", "+1", ""] {
            assert_eq!(double(text), Err(Refused), "`{text}`");
        }
        assert_eq!((float("3.4028234e38"), float("3.5e38")), (Ok(f32::MAX), Err(Refused)));
        assert!(not_finite("NaN").is_some_and(f64::is_nan));
        assert_eq!(not_finite("Infinity"), Some(f64::INFINITY));
        assert_eq!((not_finite("inf"), not_finite("nan")), (None, None));
    }
}
