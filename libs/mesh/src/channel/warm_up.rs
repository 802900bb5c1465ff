//! How much of its share an instance gets while it is young: caches are cold, pools are empty, nothing is compiled yet.
//!
//! Its age decides, whoever else comes or goes meanwhile.

use super::table::Known;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;

/// The share of a new instance (Envoy's).
const SHARE_MIN: f32 = 0.1;
/// By how much clocks may differ: an instance that was seen to join is new, even if it says that it has been there this long.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// How old an instance is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    register_time: Timestamp,
    /// Its age when it was first seen.
    before: Duration,
    seen: Instant,
}

impl Age {
    pub(super) fn new(known: &Known, now: Instant, wall: Timestamp) -> Self {
        let register_time = known.instance.register_time;
        // Negative if its clock is ahead of ours.
        let stated = Duration::try_from(wall.duration_since(register_time)).unwrap_or_default();
        let before = if known.joined && stated < SKEW_MAX { Duration::ZERO } else { stated };
        Self { register_time, before, seen: now }
    }

    /// Whether a process that registered then is not this one.
    pub(super) fn is_of_another(&self, register_time: Timestamp) -> bool {
        self.register_time != register_time
    }

    pub(super) fn at(&self, now: Instant) -> Duration {
        self.before + now.saturating_duration_since(self.seen)
    }
}

/// The part of its weight that an instance has at an age.
pub(super) fn share(age: Duration, warm_up: Duration) -> f32 {
    if age >= warm_up {
        return 1.0;
    }
    SHARE_MIN + (1.0 - SHARE_MIN) * age.div_duration_f32(warm_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::table::Table;
    use crate::registry::Change;
    use crate::registry::Entry;
    use crate::registry::Instance;
    use crate::registry::Registration;
    use crate::registry::Update;

    const WARM_UP: Duration = Duration::from_secs(10);

    /// The age of an instance that says it registered so many seconds ago, as a watcher sees it that hears of it now.
    fn age(joined: bool, seconds_ago: i64, now: Instant) -> Age {
        let wall = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let registered = Timestamp::from_second(wall.as_second() - seconds_ago).unwrap();
        let registration = Registration::new("a", "links", "127.0.0.1:1", &["a.A"]);
        let entry = Entry {
            grpc_service: "a.A".to_owned(),
            instance: Instance::new(&registration, registered),
        };
        let mut table = Table::default();
        table.apply(if joined {
            Update::Changed { revision: 1, changes: vec![Change::Put(entry)] }
        } else {
            Update::Listed { revision: 1, entries: vec![entry] }
        });
        Age::new(&table.instances["a"], now, wall)
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let at = |seconds| share(Duration::from_secs(seconds), WARM_UP);
        assert!((at(0) - 0.1).abs() < 0.001);
        assert!((at(5) - 0.55).abs() < 0.001);
        assert!((at(10) - 1.0).abs() < f32::EPSILON);
        assert!((share(Duration::ZERO, Duration::ZERO) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn who_is_there_already_is_as_old_as_it_says() {
        let now = Instant::now();
        assert_eq!(age(false, 3, now).at(now), Duration::from_secs(3));
        assert_eq!(age(false, 300, now).at(now + WARM_UP), Duration::from_secs(310));
    }

    #[test]
    fn who_is_seen_to_join_is_new_whatever_its_clock_says() {
        let now = Instant::now();
        for seconds_ago in [-3_600, -30, 0, 30] {
            assert_eq!(age(true, seconds_ago, now).at(now), Duration::ZERO, "{seconds_ago}");
        }
        // It lost its lease and came back.
        assert_eq!(age(true, 3_600, now).at(now), Duration::from_secs(3_600));
        assert_eq!(age(false, -30, now).at(now), Duration::ZERO);
    }
}
