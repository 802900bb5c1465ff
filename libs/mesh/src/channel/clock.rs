//! Time as the data path keeps it: milliseconds since the mesh began, in a word that fits beside others in an atomic.

use std::time::Duration;
use std::time::Instant;

/// Waits in ticks are shorter than this; what seems to lie further ahead is long past, for ticks wrap after 49 days.
const AHEAD_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Where ticks count from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

/// A moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tick(pub(super) u32);

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self(now)
    }

    #[expect(clippy::cast_possible_truncation, reason = "wraps, see above")]
    pub(super) fn tick(self, now: Instant) -> Tick {
        Tick(now.saturating_duration_since(self.0).as_millis() as u32)
    }
}

impl Tick {
    /// Milliseconds since `earlier`; 0 if that is yet to come: who wrote it took its time a little later.
    pub(super) fn since(self, earlier: Self) -> u32 {
        let past = self.0.wrapping_sub(earlier.0);
        if past > u32::MAX / 2 { 0 } else { past }
    }

    /// Milliseconds until `later`; 0 if that has come.
    pub(super) fn until(self, later: Self) -> u32 {
        let ahead = later.0.wrapping_sub(self.0);
        if u128::from(ahead) > AHEAD_MAX.as_millis() { 0 } else { ahead }
    }

    /// The moment after a wait, which must be shorter than two hours.
    pub(super) fn after(self, wait: Duration) -> Self {
        let wait = wait.min(AHEAD_MAX).as_millis();
        Self(self.0.wrapping_add(u32::try_from(wait).expect("two hours in milliseconds")))
    }

    /// Whole seconds, from 1: second 0 is none.
    pub(super) fn second(self) -> u32 {
        self.0 / 1_000 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_and_what_is_long_past_is_past() {
        let late = Tick(u32::MAX - 10);
        let soon = late.after(Duration::from_millis(100));
        assert_eq!(soon, Tick(89));
        assert_eq!((late.until(soon), soon.since(late)), (100, 100));
        assert_eq!((soon.until(late), late.since(soon)), (0, 0));
        assert_eq!(Tick(0).until(Tick(u32::MAX / 3)), 0, "no wait is that long");
    }
}
