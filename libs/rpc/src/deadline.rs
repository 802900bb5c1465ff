//! The moment until which a caller waits: absolute inside a process, `grpc-timeout` between processes.
//!
//! Every attempt and every call downstream of a call shares its deadline; each sends the time left.

use crate::Error;
use std::time::Duration;
use std::time::Instant;

/// A `grpc-timeout` has 8 digits at most.
const DIGITS_MAX: u128 = 100_000_000;
/// Its units up to the second, each a thousand of the one before.
const UNITS: [char; 4] = ['n', 'u', 'm', 'S'];

/// When a call is no longer worth finishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The header that carries the time left.
    pub const HEADER: &'static str = "grpc-timeout";

    /// The deadline of a call that came in at `now` with this `grpc-timeout`: at most 8 digits and one of `HMSmun`
    /// (gRPC over HTTP/2).
    ///
    /// # Errors
    /// INVALID_FIELD for anything else.
    pub fn parse(text: &str, now: Instant) -> Result<Self, Error> {
        let wrong =
            || Error::invalid(Self::HEADER, "must be 1 to 8 digits and one of H, M, S, m, u, n");
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let digits = &text[..text.len() - unit.len_utf8()];
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let value: u64 = digits.parse().map_err(|_| wrong())?;
        let timeout = match unit {
            'H' => Duration::from_secs(value * 3600),
            'M' => Duration::from_secs(value * 60),
            'S' => Duration::from_secs(value),
            'm' => Duration::from_millis(value),
            'u' => Duration::from_micros(value),
            'n' => Duration::from_nanos(value),
            _ => return Err(wrong()),
        };
        Ok(Self(now + timeout))
    }

    /// The time left at `now` as a `grpc-timeout`, cut to four digits: never later than the truth, less than 0.1 % earlier, and the
    /// same text for most calls that begin with the same time, which HPACK's table then holds.
    #[must_use]
    pub fn header(self, now: Instant) -> String {
        let left = self.left(now);
        let mut value = left.as_nanos();
        let mut unit = 0;
        // Digits are cut before units are, since 8 digits are allowed.
        while value >= DIGITS_MAX && unit + 1 < UNITS.len() {
            value /= 1_000;
            unit += 1;
        }
        let value = value.min(DIGITS_MAX - 1);
        let cut = 10_u128.pow(value.checked_ilog10().unwrap_or(0).saturating_sub(3));
        format!("{}{}", value / cut * cut, UNITS[unit])
    }

    /// How long is left at `now`; zero once it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_never_later_and_hardly_earlier_than_the_deadline() {
        let now = Instant::now();
        for left in [0, 1, 9_999, 12_345_678, 99_999_999, 100_000_000, 9_999_987_654] {
            let deadline = Deadline(now + Duration::from_nanos(left));
            let again = Deadline::parse(&deadline.header(now), now).expect("it was written by us");
            let difference = deadline.0 - again.0;
            assert!(difference <= deadline.left(now) / 1_000, "{left}: {difference:?}");
        }
    }

    #[test]
    fn a_header_is_the_same_for_calls_that_begin_alike() {
        let now = Instant::now();
        let of = |nanos| Deadline(now + Duration::from_nanos(nanos)).header(now);
        assert_eq!(of(9_999_987_654), "9999000u");
        assert_eq!(of(9_999_123_456), "9999000u");
        assert_eq!(of(0), "0n");
        assert_eq!(of(10_000_000_000), "10000000u");
        assert_eq!(of(3_600_000_000_000), "3600000m");
        assert_eq!(of(u64::MAX), "99990000S");
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1 S", "1.5S", "é", "1é"] {
            assert!(Deadline::parse(text, Instant::now()).is_err(), "{text}");
        }
    }
}
