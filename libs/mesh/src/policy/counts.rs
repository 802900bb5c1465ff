//! How many calls a route took, for people: no metric, since a route lives no longer than its policy.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What one process counts of one route, since its policy is in force.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl RouteCounts {
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// A copy of a route has had no calls.
impl Clone for RouteCounts {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What was counted is no part of what a policy says.
impl PartialEq for RouteCounts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
