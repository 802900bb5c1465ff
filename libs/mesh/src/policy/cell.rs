//! The policy of one service, for who reads it at every call: replaced as a whole, read without a lock.

use super::Policy;
use super::PolicySet;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The policy of one service as it is now. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct PolicyCell(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    policy: ArcSwap<Policy>,
    /// Counts what was put in, after it was.
    changes: AtomicU64,
}

impl PolicyCell {
    /// The defaults, until something else is known.
    #[must_use]
    pub fn default_of(service: &str) -> Self {
        let policy = ArcSwap::from_pointee(Policy::default_of(service));
        Self(Arc::new(Cell { policy, changes: AtomicU64::new(0) }))
    }

    /// The revision that holds now; 0: the defaults.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.load().revision
    }

    /// The policy that holds now: one call asks once, so that it never sees two.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.0.policy.load()
    }

    /// Grows when the policy changes: cheaper to look at than the policy, for who has made something of it.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Takes the service's policy out of a set.
    pub(crate) fn follow(&self, policies: &PolicySet) {
        let before = self.0.policy.load();
        let service = &before.service;
        match policies.get(service) {
            Some(policy) if Arc::ptr_eq(policy, &before) => {}
            Some(policy) => self.put(Arc::clone(policy)),
            None if before.revision == 0 => {}
            None => self.put(Arc::new(Policy::default_of(service))),
        }
    }

    fn put(&self, policy: Arc<Policy>) {
        self.0.policy.store(policy);
        self.0.changes.fetch_add(1, Ordering::Release);
    }
}
