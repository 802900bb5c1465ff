//! The moment until which a caller waits: absolute inside a process, `grpc-timeout` between processes.
//!
//! Every attempt and every call downstream of a call shares its deadline; each sends the time left.

use crate::Error;
use std::time::Duration;
use std::time::Instant;

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

    /// The time left at `now` as a `grpc-timeout`, in the finest unit that 8 digits hold.
    #[must_use]
    pub fn header(self, now: Instant) -> String {
        const DIGITS: u128 = 100_000_000;
        let left = self.left(now);
        if left.as_nanos() < DIGITS {
            format!("{}n", left.as_nanos())
        } else if left.as_micros() < DIGITS {
            format!("{}u", left.as_micros())
        } else if left.as_millis() < DIGITS {
            format!("{}m", left.as_millis())
        } else {
            format!("{}S", left.as_secs().min(99_999_999))
        }
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
    fn a_header_reads_back_what_it_writes() {
        let now = Instant::now();
        for left in [0, 1, 99_999_999, 100_000_000, 15_000_000_000, 3_600_000_000_000_000] {
            let deadline = Deadline(now + Duration::from_nanos(left));
            let again = Deadline::parse(&deadline.header(now), now).expect("it was written by us");
            let difference = deadline.0 - again.0;
            assert!(difference < Duration::from_millis(1), "{left}: {difference:?}");
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1 S", "1.5S", "é", "1é"] {
            assert!(Deadline::parse(text, Instant::now()).is_err(), "{text}");
        }
    }
}
