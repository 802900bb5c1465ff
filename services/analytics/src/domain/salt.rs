//! When a day's salt lives: from the day before to 48 h after its day began (UTC).

use super::quarter::DAY_MICROS;

/// A salt is destroyed this many days after its day began.
const LIFE_DAYS: i32 = 2;

/// The day of a moment (microseconds since 1970), in days since 1970, UTC.
pub fn day(micros: i64) -> i32 {
    i32::try_from(micros.div_euclid(DAY_MICROS)).unwrap_or(i32::MAX - 1)
}

/// The oldest day whose salt still lives at a moment: 48 h after a day began, the day but one after it begins.
pub fn oldest_day(micros: i64) -> i32 {
    day(micros) - LIFE_DAYS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_lives_for_48_hours_from_the_start_of_its_day() {
        let begins = 20_000 * DAY_MICROS;
        assert_eq!(day(begins), 20_000);
        assert_eq!(oldest_day(begins), 19_999, "yesterday's lives");
        assert_eq!(oldest_day(begins + 2 * DAY_MICROS - 1), 20_000, "the last moment");
        assert_eq!(oldest_day(begins + 2 * DAY_MICROS), 20_001, "48 h are over");
    }
}
