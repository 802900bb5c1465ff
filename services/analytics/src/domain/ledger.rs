//! Which clicks of a partition were folded: per incarnation of a spool, the highest number.
//!
//! An incarnation's numbers arrive in order, so what is at most the highest was folded, and a jump is a loss. An
//! incarnation is remembered until the append time seen in the partition is [`REMEMBERED`] past its opening; what comes
//! later still is expired, never folded a second time by mistake.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::click::micros;

/// How long an incarnation is remembered after it was opened.
pub const REMEMBERED: Duration = Duration::from_secs(35 * 24 * 3600);

/// Numbers of an incarnation and partition begin here and have no holes.
const NUMBER_FIRST: u64 = 1;

/// The 16 bytes of an incarnation's UUIDv7.
pub type Incarnation = [u8; 16];

/// When an incarnation was opened, in microseconds since 1970: the time in its UUIDv7, whole milliseconds.
pub fn opened_micros(incarnation: &Incarnation) -> i64 {
    let mut millis = [0u8; 8];
    millis[2..].copy_from_slice(&incarnation[..6]);
    // 48 bits of milliseconds fit as microseconds.
    i64::from_be_bytes(millis) * 1_000
}

/// What is to be done with a click, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new; this many numbers before it never came.
    Fold {
        /// Numbers that were jumped over: lost clicks.
        lost: u64,
    },
    /// It was folded before.
    Skip,
    /// Whether it was folded is no longer known.
    Expired,
}

/// The ledger of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    highest: HashMap<Incarnation, u64>,
    append_seen_micros: i64,
}

impl Ledger {
    /// As it was stored: the highest number folded of each incarnation, and the greatest append time seen.
    pub fn stored(
        highest: impl IntoIterator<Item = (Incarnation, u64)>,
        append_seen_micros: i64,
    ) -> Ledger {
        Ledger { highest: highest.into_iter().collect(), append_seen_micros }
    }

    /// Notes the append time of a record. Time never runs backwards here, whatever the broker's clock does.
    pub fn see(&mut self, append_micros: i64) {
        self.append_seen_micros = self.append_seen_micros.max(append_micros);
    }

    /// The greatest append time seen, microseconds since 1970; 0 before the first record.
    pub fn append_seen_micros(&self) -> i64 {
        self.append_seen_micros
    }

    /// Judges the clicks with these numbers, one or several that can only be taken together, and counts them as folded
    /// if they are to be.
    pub fn judge(&mut self, incarnation: &Incarnation, numbers: RangeInclusive<u64>) -> Verdict {
        if expired(incarnation, self.append_seen_micros) {
            return Verdict::Expired;
        }
        let (first, last) = numbers.into_inner();
        let next = self.highest.get(incarnation).map_or(NUMBER_FIRST, |highest| highest + 1);
        if last < next {
            return Verdict::Skip;
        }
        self.highest.insert(*incarnation, last);
        Verdict::Fold { lost: first.saturating_sub(next) }
    }

    /// The highest number folded of an incarnation.
    pub fn highest(&self, incarnation: &Incarnation) -> Option<u64> {
        self.highest.get(incarnation).copied()
    }

    /// Forgets incarnations that have expired, and names them.
    pub fn forget_expired(&mut self) -> Vec<Incarnation> {
        let append_seen_micros = self.append_seen_micros;
        let forgotten =
            self.highest.extract_if(|incarnation, _| expired(incarnation, append_seen_micros));
        forgotten.map(|(incarnation, _)| incarnation).collect()
    }
}

fn expired(incarnation: &Incarnation, append_seen_micros: i64) -> bool {
    opened_micros(incarnation).saturating_add(micros(REMEMBERED)) < append_seen_micros
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

    fn incarnation(opened_millis: u64, tail: u8) -> Incarnation {
        let mut bytes = [tail; 16];
        bytes[..6].copy_from_slice(&opened_millis.to_be_bytes()[2..]);
        bytes
    }

    #[test]
    fn numbers_are_folded_once_and_a_jump_is_a_loss() {
        let spool = incarnation(1_000, 7);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.judge(&spool, 1..=1), Verdict::Fold { lost: 0 });
        assert_eq!(ledger.judge(&spool, 1..=1), Verdict::Skip);
        assert_eq!(ledger.judge(&spool, 2..=2), Verdict::Fold { lost: 0 });
        assert_eq!(ledger.judge(&spool, 6..=6), Verdict::Fold { lost: 3 });
        assert_eq!(ledger.judge(&spool, 4..=4), Verdict::Skip);
        assert_eq!(ledger.judge(&incarnation(1_000, 8), 3..=3), Verdict::Fold { lost: 2 });
    }

    #[test]
    fn an_incarnation_expires_by_append_time_alone_35_days_after_its_opening() {
        let spool = incarnation(0, 7);
        let mut ledger = Ledger::default();
        ledger.see(35 * DAY_MICROS);
        assert_eq!(ledger.judge(&spool, 1..=1), Verdict::Fold { lost: 0 });
        assert!(ledger.forget_expired().is_empty());
        assert_eq!(ledger.judge(&spool, 1..=1), Verdict::Skip, "remembered to the last moment");
        ledger.see(35 * DAY_MICROS + 1);
        ledger.see(1);
        assert_eq!(ledger.judge(&spool, 2..=2), Verdict::Expired, "time does not run backwards");
        assert_eq!(ledger.forget_expired(), [spool]);
        assert_eq!(ledger.judge(&spool, 1..=1), Verdict::Expired, "never folded again");
    }

    #[test]
    fn clicks_that_can_only_be_taken_together_count_all_their_numbers() {
        let spool = incarnation(1_000, 7);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.judge(&spool, 1..=3), Verdict::Fold { lost: 0 });
        assert_eq!(ledger.judge(&spool, 2..=3), Verdict::Skip);
        assert_eq!(ledger.judge(&spool, 3..=5), Verdict::Fold { lost: 0 });
        assert_eq!(ledger.judge(&spool, 8..=9), Verdict::Fold { lost: 2 });
        assert_eq!(ledger.highest(&spool), Some(9));
    }

    proptest! {
        #[test]
        fn resent_and_overlapping_ranges_fold_each_number_once(
            ranges in proptest::collection::vec((1u64..50, 1u64..20), 1..40),
        ) {
            let spool = incarnation(5, 1);
            let mut ledger = Ledger::default();
            let mut folded = std::collections::BTreeSet::new();
            let mut lost = 0;
            for (first, count) in ranges {
                for number in first..first + count {
                    if let Verdict::Fold { lost: jumped } = ledger.judge(&spool, number..=number) {
                        prop_assert!(folded.insert(number));
                        lost += jumped;
                    }
                }
            }
            let highest = folded.last().copied().unwrap();
            prop_assert_eq!(folded.len() as u64 + lost, highest);
        }
    }
}
