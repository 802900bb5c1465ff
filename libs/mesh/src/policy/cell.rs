//! The policy of one service, for who reads it at every call: replaced as a whole, read without a lock.

use super::Policy;
use super::PolicySet;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The policy of one service as it is now. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct PolicyCell(Arc<ArcSwap<Policy>>);

impl PolicyCell {
    /// The defaults, until something else is known.
    #[must_use]
    pub fn default_of(service: &str) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Policy::default_of(service))))
    }

    /// The policy that holds now: one call asks once, so that it never sees two.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.0.load()
    }

    /// Takes the service's policy out of a set.
    pub(crate) fn follow(&self, policies: &PolicySet) {
        let before = self.0.load();
        let service = &before.service;
        match policies.get(service) {
            Some(policy) if Arc::ptr_eq(policy, &before) => {}
            Some(policy) => self.0.store(Arc::clone(policy)),
            None if before.revision == 0 => {}
            None => self.0.store(Arc::new(Policy::default_of(service))),
        }
    }
}
