//! A position in Postgres' write-ahead log, as a token of "what I have written".

use std::fmt;
use std::str::FromStr;

/// A log sequence number. Text form is Postgres' own, `16/B374D848`; safe to hand to clients as an opaque token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The text is not of the form `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLsn;

impl fmt::Display for BadLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log position looks like 16/B374D848")
    }
}

impl std::error::Error for BadLsn {}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let half = |digits: &str| {
            // from_str_radix alone would also take a sign.
            let plain =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if !plain {
                return Err(BadLsn);
            }
            u64::from_str_radix(digits, 16).map_err(|_| BadLsn)
        };
        let (high, low) = text.split_once('/').ok_or(BadLsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_form_and_orders_by_value() {
        let position: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(position, Lsn(0x16_B374_D848));
        assert_eq!(position.to_string(), "16/B374D848");
        assert!("2/0".parse::<Lsn>().unwrap() > "1/FFFFFFFF".parse::<Lsn>().unwrap());
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "16", "/", "16/", "/1", "+1/2", "1/-2", "123456789/0", "1/2/3", "g/1"] {
            assert_eq!(text.parse::<Lsn>(), Err(BadLsn), "{text}");
        }
    }
}
