//! The time that limits go by: one that stays what it is while clocks are set, or a test's.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicU64;
#[cfg(test)]
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// The time that limits go by.
#[derive(Debug, Clone)]
pub(super) enum Clock {
    /// Since this edge began; Redis has its own.
    Own(Instant),
    /// A test's, in microseconds, for Redis too.
    #[cfg(test)]
    Told(Arc<AtomicU64>),
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        match self {
            Self::Own(began) => began.elapsed(),
            #[cfg(test)]
            Self::Told(micros) => Duration::from_micros(micros.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn for_redis(&self) -> Option<Duration> {
        match self {
            Self::Own(_) => None,
            #[cfg(test)]
            Self::Told(_) => Some(self.now()),
        }
    }

    pub(super) fn since(&self, instant: Instant) -> Duration {
        match self {
            Self::Own(began) => instant.saturating_duration_since(*began),
            #[cfg(test)]
            Self::Told(_) => self.now(),
        }
    }
}
