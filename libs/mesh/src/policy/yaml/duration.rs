//! Durations as text: what protobuf's JSON has (`0.5s`), and the other units that people use.

use std::time::Duration;

/// A number and its unit without a space between; none if it is anything else.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|it: char| it.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_nanos: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    // As many as a nanosecond has in an hour; so no product below is too large either.
    if !digits(whole) || !digits(fraction) || whole.len() > 13 || fraction.len() > 13 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction_nanos = fraction.parse::<u128>().ok()? * unit_nanos;
    if !fraction_nanos.is_multiple_of(scale) {
        return None;
    }
    let nanos = whole.parse::<u128>().ok()? * unit_nanos + fraction_nanos / scale;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// As protobuf's JSON has it.
pub(super) fn format(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        for (text, millis) in
            [("0s", 0), ("0.5s", 500), ("500ms", 500), ("1.5m", 90_000), ("24h", 86_400_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("0.000000001s"), Some(Duration::from_nanos(1)));
        for text in [
            "",
            "5",
            "5 s",
            "s",
            "-1s",
            "+1s",
            "1e3s",
            ".5s",
            "5.s",
            "1s ",
            "1d",
            "1S",
            "1h30m",
            "5µs",
            "0.0000000001s",
            "99999999999999s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for nanos in [0, 1, 25_000_000, 999_999_999, 1_500_000_000, 86_400_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
        assert_eq!(format(Duration::from_millis(25)), "0.025s");
    }
}
