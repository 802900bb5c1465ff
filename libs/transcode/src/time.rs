//! Timestamps and durations as ProtoJSON writes them, to seconds and nanoseconds and back.

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what a `google.protobuf.Timestamp` may be.
pub(crate) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> =
    -62_135_596_800..=253_402_300_799;
/// Ten thousand years: what the seconds of a `google.protobuf.Duration` may be, either way.
pub(crate) const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
const NANOS_END: i32 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Seconds and nanoseconds of an RFC 3339 time; none if it is not one or out of range.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    let head = bytes.get(..19)?;
    let is_punctuated = head[4] == b'-'
        && head[7] == b'-'
        && head[10] == b'T'
        && head[13] == b':'
        && head[16] == b':';
    if !is_punctuated {
        return None;
    }
    let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) =
        (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..19])?);
    let is_date = (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(&bytes[19..])?;
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let of_day = hour * 3_600 + minute * 60 + second;
    let seconds = days_from_date(year, month, day) * DAY_SECONDS + of_day - offset;
    TIMESTAMP_SECONDS.contains(&seconds).then_some((seconds, nanos))
}

/// Seconds and nanoseconds, of one sign, of a number with `s` behind; none if it is not that or out of range.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let whole = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    // Twelve digits are more than the largest has.
    if !(1..=12).contains(&whole) {
        return None;
    }
    let seconds = digits(&unsigned.as_bytes()[..whole])?;
    let (nanos, rest) = fraction(&unsigned.as_bytes()[whole..])?;
    if !rest.is_empty() || seconds > DURATION_SECONDS_MAX {
        return None;
    }
    Some(if unsigned.len() < number.len() { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// Appends a time, or says what is wrong with it.
pub(crate) fn put_timestamp(
    out: &mut Vec<u8>,
    seconds: i64,
    nanos: i32,
) -> Result<(), &'static str> {
    if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..NANOS_END).contains(&nanos) {
        return Err("a timestamp is out of the years 0001 to 9999");
    }
    let (year, month, day) = date_of(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let mut text = *b"0000-00-00T00:00:00";
    put_digits(&mut text[..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], hour);
    put_digits(&mut text[14..16], minute);
    put_digits(&mut text[17..], second);
    out.extend_from_slice(&text);
    put_fraction(out, nanos);
    out.push(b'Z');
    Ok(())
}

/// Appends a duration, or says what is wrong with it.
pub(crate) fn put_duration(
    out: &mut Vec<u8>,
    seconds: i64,
    nanos: i32,
) -> Result<(), &'static str> {
    let is_of_one_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    let is_in_range = (-DURATION_SECONDS_MAX..=DURATION_SECONDS_MAX).contains(&seconds);
    if !is_of_one_sign || !is_in_range || !(1 - NANOS_END..NANOS_END).contains(&nanos) {
        return Err("a duration is out of its range");
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(seconds.unsigned_abs()).as_bytes());
    put_fraction(out, nanos.abs());
    out.push(b's');
    Ok(())
}

/// The nanoseconds of what begins with `.`, if it does, and what follows: 1 to 9 digits.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let value = digits(&rest[..count])? * 10_i64.pow(9 - u32::try_from(count).ok()?);
    Some((i32::try_from(value).ok()?, &rest[count..]))
}

/// 3, 6 or 9 digits after a point, or nothing.
fn put_fraction(out: &mut Vec<u8>, nanos: i32) {
    if nanos == 0 {
        return;
    }
    let mut text = *b".000000000";
    put_digits(&mut text[1..], i64::from(nanos));
    let length = match nanos {
        _ if nanos % 1_000_000 == 0 => 4,
        _ if nanos % 1_000 == 0 => 7,
        _ => 10,
    };
    out.extend_from_slice(&text[..length]);
}

/// The value of at most 18 digits.
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

/// Fills a text with the last digits of a number that is not negative.
fn put_digits(text: &mut [u8], mut value: i64) {
    for byte in text.iter_mut().rev() {
        *byte = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years begin with March here, so that a leap day is the last
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The other way.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
        let mut out = Vec::new();
        put_timestamp(&mut out, seconds, nanos).ok()?;
        String::from_utf8(out).ok()
    }

    fn duration(seconds: i64, nanos: i32) -> Option<String> {
        let mut out = Vec::new();
        put_duration(&mut out, seconds, nanos).ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn r20_timestamps_are_written_in_utc_with_no_3_6_or_9_digits() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.500Z"),
            (1_767_225_600, 1_000, "2026-01-01T00:00:00.000001Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(timestamp(seconds, nanos).as_deref(), Some(text));
            assert_eq!(parse_timestamp(text), Some((seconds, nanos)));
        }
        for (seconds, nanos) in
            [(-62_135_596_801, 0), (253_402_300_800, 0), (0, -1), (0, NANOS_END)]
        {
            assert_eq!(timestamp(seconds, nanos), None, "out of range is an error, not a clamp");
        }
    }

    #[test]
    fn r20_timestamps_are_taken_with_any_offset_and_nothing_but_rfc_3339() {
        for (text, expected) in [
            ("2026-01-02T03:04:05.5+02:00", Some((1_767_315_845, 500_000_000))),
            ("1970-01-01T00:00:00-00:00", Some((0, 0))),
            ("1970-01-01T05:30:00.123456+05:30", Some((0, 123_456_000))),
            ("0001-01-01T00:00:00+00:01", None),
            ("9999-12-31T23:59:59-00:01", None),
            ("10000-01-01T00:00:00Z", None),
            ("0000-12-31T23:59:59Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T23:59:60Z", None),
            ("2026-01-01t00:00:00Z", None),
            ("2026-01-01T00:00:00z", None),
            ("2026-01-01 00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.1234567890Z", None),
            ("2026-01-01T00:00:00+0100", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01T00:00:00Zx", None),
            ("2026-01-01", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
    }

    #[test]
    fn r20_durations_have_one_sign_and_are_never_clamped() {
        for (seconds, nanos, text) in [
            (1, 0, "1s"),
            (1, 500_000_000, "1.500s"),
            (0, -1, "-0.000000001s"),
            (-1, -500_000, "-1.000500s"),
            (DURATION_SECONDS_MAX, 0, "315576000000s"),
            (0, 0, "0s"),
        ] {
            assert_eq!(duration(seconds, nanos).as_deref(), Some(text));
            assert_eq!(parse_duration(text), Some((seconds, nanos)));
        }
        for (seconds, nanos) in [
            (1, -1),
            (-1, 1),
            (DURATION_SECONDS_MAX + 1, 0),
            (-DURATION_SECONDS_MAX - 1, 0),
            (i64::MIN, 0),
            (0, NANOS_END),
        ] {
            assert_eq!(duration(seconds, nanos), None);
        }
        for text in [
            "",
            "s",
            "1",
            "1 s",
            "+1s",
            "1.s",
            ".5s",
            "1.1234567890s",
            "315576000001s",
            "9999999999999s",
            "1e3s",
            "1S",
            "--1s",
            "-s",
        ] {
            assert_eq!(parse_duration(text), None, "`{text}`");
        }
        assert_eq!(parse_duration("1.5s"), Some((1, 500_000_000)));
    }

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        let mut expected = (1, 1, 1);
        for days in TIMESTAMP_SECONDS.start() / DAY_SECONDS..=TIMESTAMP_SECONDS.end() / DAY_SECONDS
        {
            let (year, month, day) = date_of(days);
            assert_eq!((year, month, day), expected);
            assert_eq!(days_from_date(year, month, day), days);
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == days_of(year, month) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
