//! Waits between attempts: each twice as long as the one before, up to a maximum, with full jitter.

use rand::RngExt as _;
use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits between `min` and `max`, beginning with `min`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        assert!(!min.is_zero() && min <= max, "a wait grows from something");
        Self { min, max, ceiling: min }
    }

    /// The next wait: anything from `min` to a ceiling that doubles, so that those who failed together don't come back
    /// together.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = rand::rng().random_range(self.min..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(self.max);
        wait
    }

    /// Begins anew, after a success.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_their_bounds_and_grow() {
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max);
        assert_eq!(backoff.next(), min);
        let waits: Vec<_> = (0..100).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| (min..=max).contains(wait)));
        assert!(waits.iter().any(|wait| *wait > max / 2));
        backoff.reset();
        assert_eq!(backoff.next(), min);
    }
}
