//! When keys were last presented, to the minute, kept in memory until they are written together.
//!
//! A call only notes a use here: it never waits for a write. The note of a busy key costs one entry a flush.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use rpc::ApiKeyId;

/// Keys noted between two flushes, at most; the use of a further one is not noted.
const KEYS_MAX: usize = 100_000;
const MINUTE_MICROS: i64 = 60 * 1_000_000;

/// Uses not yet written.
#[derive(Debug, Default)]
pub(crate) struct LastUses {
    /// Microseconds since 1970, cut to the minute.
    micros: HashMap<ApiKeyId, i64>,
}

impl LastUses {
    /// Notes that a key was presented; false if there is no room for another key.
    pub(crate) fn note(&mut self, key: ApiKeyId, time: Timestamp) -> bool {
        let micros = time.as_microsecond();
        self.merge(key, micros - micros.rem_euclid(MINUTE_MICROS))
    }

    /// Takes what was noted, sorted by key: the order in which the rows are locked.
    pub(crate) fn take(&mut self) -> Vec<(ApiKeyId, i64)> {
        let mut taken: Vec<_> = std::mem::take(&mut self.micros).into_iter().collect();
        taken.sort_unstable();
        taken
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&mut self, uses: Vec<(ApiKeyId, i64)>) {
        for (key, micros) in uses {
            self.merge(key, micros);
        }
    }

    fn merge(&mut self, key: ApiKeyId, micros: i64) -> bool {
        let has_room = self.micros.len() < KEYS_MAX;
        match self.micros.entry(key) {
            Entry::Occupied(mut entry) => {
                let latest = micros.max(*entry.get());
                entry.insert(latest);
                true
            }
            Entry::Vacant(entry) if has_room => {
                entry.insert(micros);
                true
            }
            Entry::Vacant(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_use_is_kept_to_the_minute_and_the_latest_wins() {
        let (mut uses, key) = (LastUses::default(), ApiKeyId::new());
        assert!(uses.note(key, at(119)) && uses.note(key, at(181)) && uses.note(key, at(61)));
        assert_eq!(uses.take(), [(key, 180 * 1_000_000)]);
        assert_eq!(uses.take(), []);
    }

    #[test]
    fn what_is_put_back_does_not_hide_a_later_use() {
        let (mut uses, key) = (LastUses::default(), ApiKeyId::new());
        uses.note(key, at(60));
        let taken = uses.take();
        uses.note(key, at(120));
        uses.put_back(taken);
        assert_eq!(uses.take(), [(key, 120 * 1_000_000)]);
    }

    #[test]
    fn there_is_room_for_a_stated_number_of_keys() {
        let mut uses = LastUses::default();
        for _ in 0..KEYS_MAX {
            assert!(uses.note(ApiKeyId::new(), at(60)));
        }
        assert!(!uses.note(ApiKeyId::new(), at(60)));
        assert_eq!(uses.take().len(), KEYS_MAX);
    }
}
