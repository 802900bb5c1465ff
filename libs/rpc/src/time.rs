//! Timestamps between the wire and the code.

use crate::Error;
use jiff::Timestamp;

/// For a message.
#[must_use]
pub fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    // jiff keeps both parts of one sign; protobuf wants the nanoseconds to count forward.
    let nanos = time.as_nanosecond();
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000))
            .expect("jiff's range is ±10,000 years"),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("a remainder of 10^9"),
    }
}

/// From a message.
///
/// # Errors
/// INVALID_FIELD naming `field` if it lies outside the years 1 to 9999 or has malformed nanoseconds.
pub fn from_proto(field: &str, time: &prost_types::Timestamp) -> Result<Timestamp, Error> {
    // 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: the range of google.protobuf.Timestamp.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Error::invalid(field, "must lie between the years 1 and 9999"));
    }
    Timestamp::new(time.seconds, time.nanos)
        .map_err(|_| Error::invalid(field, "must lie between the years 1 and 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_back_before_and_after_1970() {
        for nanos in [0_i128, 1, -1, -1_500_000_000, 1_764_000_000_123_456_789] {
            let time = Timestamp::from_nanosecond(nanos).expect("in range");
            assert_eq!(from_proto("t", &to_proto(time)), Ok(time), "{nanos}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_field() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            let time = prost_types::Timestamp { seconds, nanos };
            let error = from_proto("start_time", &time).expect_err("out of range");
            assert_eq!(error.violations[0].field, "start_time");
        }
    }
}
