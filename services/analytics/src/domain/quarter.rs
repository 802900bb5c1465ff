//! The quarter hour, the unit in which clicks are kept: every offset of today's time zones is a multiple of it, and it
//! never crosses a UTC day, so visitor hashes of one quarter hour always share a salt.

use std::ops::Range;

/// Microseconds in a minute.
pub const MINUTE_MICROS: i64 = 60_000_000;
/// Microseconds in a quarter hour.
pub const QUARTER_MICROS: i64 = 15 * MINUTE_MICROS;
/// Microseconds in a UTC day.
pub const DAY_MICROS: i64 = 96 * QUARTER_MICROS;
/// Quarter hours in a UTC day.
pub const QUARTERS_A_DAY: i64 = 96;
/// Minutes in a quarter hour.
pub const MINUTES: usize = 15;

/// A quarter hour, counted from 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quarter(pub i64);

impl Quarter {
    /// The one that a moment (microseconds since 1970) lies in.
    pub fn of(micros: i64) -> Quarter {
        Quarter(micros.div_euclid(QUARTER_MICROS))
    }

    /// The first one that begins at or after a moment.
    pub fn at_or_after(micros: i64) -> Quarter {
        Quarter(-((-micros).div_euclid(QUARTER_MICROS)))
    }

    /// Its first moment, in microseconds since 1970.
    pub fn start_micros(self) -> i64 {
        self.0 * QUARTER_MICROS
    }

    /// The UTC day that it lies in, in days since 1970.
    pub fn day(self) -> i64 {
        self.0.div_euclid(QUARTERS_A_DAY)
    }
}

/// The minute of its quarter hour, 0 to 14, that a moment lies in.
pub fn minute_of(micros: i64) -> usize {
    let minute = micros.rem_euclid(QUARTER_MICROS) / MINUTE_MICROS;
    usize::try_from(minute).expect("a remainder of 15 minutes holds 0 to 14")
}

/// A range of time, cut outward to minutes: `start` down, `end` up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinuteRange {
    /// Its first moment, microseconds since 1970, a whole minute.
    pub start: i64,
    /// The moment after its last, a whole minute, not before `start`.
    pub end: i64,
}

impl MinuteRange {
    /// Cuts outward; a range that ends before it starts is empty.
    pub fn cut(start: i64, end: i64) -> MinuteRange {
        let start = start.div_euclid(MINUTE_MICROS) * MINUTE_MICROS;
        let end = -((-end).div_euclid(MINUTE_MICROS)) * MINUTE_MICROS;
        MinuteRange { start, end: end.max(start) }
    }

    /// The quarter hours that it touches.
    pub fn quarters(&self) -> Range<i64> {
        Quarter::of(self.start).0..Quarter::at_or_after(self.end).0
    }

    /// The minutes of one quarter hour that lie in it, as a range of 0 to 15.
    pub fn minutes_of(&self, quarter: Quarter) -> Range<usize> {
        let minutes = |moment: i64| {
            let inside = (moment - quarter.start_micros()).clamp(0, QUARTER_MICROS);
            usize::try_from(inside / MINUTE_MICROS).expect("clamped to 0 to 15")
        };
        minutes(self.start)..minutes(self.end)
    }

    /// Those quarter hours that lie in it only in part: none, one or two.
    pub fn cut_quarters(&self) -> Vec<Quarter> {
        let mut cut = Vec::new();
        let quarters = self.quarters();
        for quarter in [Quarter(quarters.start), Quarter(quarters.end - 1)] {
            let touched = quarters.contains(&quarter.0) && self.minutes_of(quarter) != (0..MINUTES);
            if touched && !cut.contains(&quarter) {
                cut.push(quarter);
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_1970_lies_in_the_quarter_hour_before() {
        assert_eq!(Quarter::of(-1), Quarter(-1));
        assert_eq!(Quarter::at_or_after(-1), Quarter(0));
        assert_eq!(minute_of(-1), 14);
    }

    #[test]
    fn a_range_names_the_quarter_hours_that_it_cuts() {
        let range = MinuteRange::cut(5 * MINUTE_MICROS + 1, 40 * MINUTE_MICROS - 1);
        assert_eq!(range, MinuteRange { start: 5 * MINUTE_MICROS, end: 40 * MINUTE_MICROS });
        assert_eq!(range.quarters(), 0..3);
        assert_eq!(range.cut_quarters(), vec![Quarter(0), Quarter(2)]);
        assert_eq!(range.minutes_of(Quarter(0)), 5..15);
        assert_eq!(range.minutes_of(Quarter(1)), 0..15);
        assert_eq!(range.minutes_of(Quarter(2)), 0..10);
    }

    #[test]
    fn a_whole_range_cuts_nothing_and_an_empty_one_touches_nothing() {
        let whole = MinuteRange::cut(0, 2 * QUARTER_MICROS);
        assert!(whole.cut_quarters().is_empty());
        let empty = MinuteRange::cut(7 * MINUTE_MICROS, 7 * MINUTE_MICROS);
        assert!(empty.minutes_of(Quarter(0)).is_empty());
        let inside_one = MinuteRange::cut(7 * MINUTE_MICROS, 9 * MINUTE_MICROS);
        assert_eq!(inside_one.cut_quarters(), vec![Quarter(0)]);
    }
}
