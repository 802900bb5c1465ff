//! A range of time cut into minutes, hours or days of a time zone.
//!
//! Hours and days are built of quarter hours, so a zone whose offset is no multiple of 15 minutes is refused for them.
//! An hour is what the zone's clock shows as one: where summer time ends with a step of half an hour, one lasts 90 minutes.

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::quarter::DAY_MICROS;
use super::quarter::MINUTE_MICROS;
use super::quarter::QUARTER_MICROS;

/// Intervals in one answer.
pub const INTERVALS_MAX: usize = 10_000;

/// How long an interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A minute.
    Minute,
    /// An hour of the zone's clock.
    Hour,
    /// A day of the zone's calendar.
    Day,
}

impl Length {
    /// The range, in microseconds, that is answered when none is asked for.
    pub fn range_default(self) -> i64 {
        match self {
            Length::Minute => 60 * MINUTE_MICROS,
            Length::Hour => DAY_MICROS,
            Length::Day => 30 * DAY_MICROS,
        }
    }
}

/// Why a range can't be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// More than [`INTERVALS_MAX`].
    #[error("must hold at most 10,000 intervals")]
    TooMany,
    /// The zone's offset is no multiple of 15 minutes somewhere in the range.
    #[error("must be a zone whose offset is a multiple of 15 minutes in all of the range")]
    Offset,
    /// A moment outside the years that calendars know.
    #[error("must lie between the years 1 and 9999")]
    Calendar,
}

impl From<jiff::Error> for CutError {
    fn from(_: jiff::Error) -> Self {
        CutError::Calendar
    }
}

/// The boundaries of the intervals, in microseconds since 1970: the first one's start, then each one's end. The first begins
/// at or before `start`, the last ends at or after `end`; an empty range has no intervals.
pub fn boundaries(
    start: i64,
    end: i64,
    length: Length,
    zone: &TimeZone,
) -> Result<Vec<i64>, CutError> {
    if start >= end {
        return Ok(Vec::new());
    }
    let mut boundary = match length {
        Length::Minute => start.div_euclid(MINUTE_MICROS) * MINUTE_MICROS,
        Length::Hour => hour_at_or_before(start, zone)?,
        Length::Day => day_start(&local(start, zone)?)?,
    };
    let mut boundaries = vec![boundary];
    while boundary < end {
        if boundaries.len() > INTERVALS_MAX {
            return Err(CutError::TooMany);
        }
        boundary = match length {
            Length::Minute => boundary + MINUTE_MICROS,
            Length::Hour => hour_after(boundary, zone)?,
            Length::Day => day_start(&local(boundary, zone)?.tomorrow()?)?,
        };
        boundaries.push(boundary);
    }
    let quarters = |moment: &i64| moment.rem_euclid(QUARTER_MICROS) == 0;
    if length != Length::Minute && !boundaries.iter().all(quarters) {
        return Err(CutError::Offset);
    }
    Ok(boundaries)
}

fn local(micros: i64, zone: &TimeZone) -> Result<Zoned, CutError> {
    Ok(Timestamp::from_microsecond(micros)?.to_zoned(zone.clone()))
}

fn day_start(day: &Zoned) -> Result<i64, CutError> {
    Ok(day.start_of_day()?.timestamp().as_microsecond())
}

/// Whether the zone's clock strikes at a moment: a full hour, or another hour than just before (a clock set forward).
fn strikes(moment: i64, zone: &TimeZone) -> Result<bool, CutError> {
    let now = local(moment, zone)?;
    if now.minute() == 0 && now.second() == 0 {
        return Ok(true);
    }
    let before = now.checked_sub(SignedDuration::from_secs(1))?;
    Ok(before.hour() != now.hour())
}

fn hour_after(boundary: i64, zone: &TimeZone) -> Result<i64, CutError> {
    let mut moment = boundary.div_euclid(QUARTER_MICROS) * QUARTER_MICROS + QUARTER_MICROS;
    // The longest hour lasts two hours: a clock set back by one of less than that.
    for _ in 0..8 {
        if strikes(moment, zone)? {
            return Ok(moment);
        }
        moment += QUARTER_MICROS;
    }
    Err(CutError::Offset)
}

fn hour_at_or_before(moment: i64, zone: &TimeZone) -> Result<i64, CutError> {
    let mut moment = moment.div_euclid(QUARTER_MICROS) * QUARTER_MICROS;
    for _ in 0..8 {
        if strikes(moment, zone)? {
            return Ok(moment);
        }
        moment -= QUARTER_MICROS;
    }
    Err(CutError::Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn cut(start: &str, end: &str, length: Length, name: &str) -> Vec<String> {
        boundaries(micros(start), micros(end), length, &zone(name))
            .unwrap()
            .into_iter()
            .map(|moment| Timestamp::from_microsecond(moment).unwrap().to_string())
            .collect()
    }

    #[test]
    fn hours_of_kathmandu_begin_at_a_quarter_past_in_utc() {
        assert_eq!(
            cut("2026-03-01T10:00:00Z", "2026-03-01T11:20:00Z", Length::Hour, "Asia/Kathmandu"),
            [
                "2026-03-01T09:15:00Z",
                "2026-03-01T10:15:00Z",
                "2026-03-01T11:15:00Z",
                "2026-03-01T12:15:00Z"
            ]
        );
    }

    #[test]
    fn days_of_kolkata_begin_at_half_past_six_in_the_evening_in_utc() {
        assert_eq!(
            cut("2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z", Length::Day, "Asia/Kolkata"),
            ["2026-02-28T18:30:00Z", "2026-03-01T18:30:00Z", "2026-03-02T18:30:00Z"]
        );
    }

    #[test]
    fn days_with_a_change_of_summer_time_have_23_and_25_hours() {
        let hours =
            |start: &str, end: &str| cut(start, end, Length::Hour, "Europe/Berlin").len() - 1;
        assert_eq!(
            cut("2026-03-29T12:00:00Z", "2026-03-29T13:00:00Z", Length::Day, "Europe/Berlin"),
            ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]
        );
        assert_eq!(hours("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 23);
        assert_eq!(
            cut("2026-10-25T12:00:00Z", "2026-10-25T13:00:00Z", Length::Day, "Europe/Berlin"),
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
        );
        assert_eq!(hours("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 25);
    }

    #[test]
    fn lord_howe_sets_its_clock_by_half_an_hour() {
        // 2026-04-05 02:00 +11 becomes 01:30 +10:30: the hour from 01:00 lasts 90 minutes.
        assert_eq!(
            cut(
                "2026-04-04T14:10:00Z",
                "2026-04-04T16:00:00Z",
                Length::Hour,
                "Australia/Lord_Howe"
            ),
            ["2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"]
        );
        // 2026-10-04 02:00 +10:30 becomes 02:30 +11: the hour from 02:00 lasts 30 minutes.
        assert_eq!(
            cut(
                "2026-10-03T15:00:00Z",
                "2026-10-03T16:30:00Z",
                Length::Hour,
                "Australia/Lord_Howe"
            ),
            [
                "2026-10-03T14:30:00Z",
                "2026-10-03T15:30:00Z",
                "2026-10-03T16:00:00Z",
                "2026-10-03T17:00:00Z"
            ]
        );
        assert_eq!(
            cut("2026-04-04T14:10:00Z", "2026-04-05T00:00:00Z", Length::Day, "Australia/Lord_Howe"),
            ["2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"]
        );
    }

    #[test]
    fn a_zone_that_skips_midnight_still_has_days_without_gaps() {
        // Cairo's summer time begins at midnight: 2026-04-24 begins at 01:00.
        assert_eq!(
            cut("2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z", Length::Day, "Africa/Cairo"),
            ["2026-04-22T22:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"]
        );
    }

    #[test]
    fn an_odd_offset_is_refused_for_hours_and_days_but_not_for_minutes() {
        // Liberia kept -00:44:30 until 1972.
        let (start, end) = (micros("1971-01-01T00:00:00Z"), micros("1971-01-01T02:00:00Z"));
        let liberia = zone("Africa/Monrovia");
        for length in [Length::Hour, Length::Day] {
            assert_eq!(boundaries(start, end, length, &liberia), Err(CutError::Offset));
        }
        assert_eq!(boundaries(start, end, Length::Minute, &liberia).unwrap().len(), 121);
    }

    #[test]
    fn ten_thousand_intervals_are_the_most() {
        let most = boundaries(0, 10_000 * MINUTE_MICROS, Length::Minute, &TimeZone::UTC).unwrap();
        assert_eq!(most.len(), 10_001);
        let more = boundaries(0, 10_000 * MINUTE_MICROS + 1, Length::Minute, &TimeZone::UTC);
        assert_eq!(more, Err(CutError::TooMany));
        assert!(boundaries(5, 5, Length::Minute, &TimeZone::UTC).unwrap().is_empty());
    }
}
