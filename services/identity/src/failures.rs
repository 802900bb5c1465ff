//! Proofs that failed: counted at once, and written into the audit log of whose account was tried, after the answer.
//!
//! What must stay true: an attempt on an account and one on none are noted by the same few instructions, and nothing is written
//! before the next tick, whenever that is: neither the time of an answer nor that of the one after it tells which of them it was. For
//! the same reason an attempt on no account is written nowhere, and only counted: there is no log that it belongs to.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rpc::UserId;

use crate::store::{Failure, Store};

/// Failures that wait to be written, at most: some hundred times what the limits let through between two ticks.
const WAITING_MAX: usize = 10_000;

/// What did not prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The password, or the address.
    Password,
    /// The code of a second factor, or a recovery code.
    Factor,
}

impl Proof {
    /// As the audit log and the metric name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Factor => "factor",
        }
    }
}

/// What was to prove it.
type Labels = [(&'static str, &'static str); 1];

/// One that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// Whose account was tried; none: nobody has the address.
    pub user: Option<UserId>,
    pub proof: Proof,
    pub at: Timestamp,
}

/// Those that wait to be written. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Failures {
    waiting: Arc<Mutex<Vec<Failed>>>,
    count: Family<Labels, Counter>,
    unwritten: Counter,
}

impl Failures {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let count = Family::<Labels, Counter>::default();
        let help = "Proofs of who somebody is that failed, by what was to prove it";
        registry.register("user_proofs_failed", help, count.clone());
        let unwritten = Counter::default();
        let help = "Failed proofs that were not kept for the audit log, since too many waited to be written; a crash loses those that wait";
        registry.register("user_proofs_failed_unwritten", help, unwritten.clone());
        Self { waiting: Arc::default(), count, unwritten }
    }

    /// Notes a failure.
    pub(crate) fn note(&self, failed: Failed) {
        self.count.get_or_create(&[("proof", failed.proof.name())]).inc();
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.push(failed);
        } else {
            self.unwritten.inc();
        }
    }

    /// Writes what waits. What can't be written waits on.
    pub(crate) async fn flush(&self, store: &Store) -> Result<(), Failure> {
        let mut taken = std::mem::take(&mut *self.waiting());
        taken.retain(|failed| failed.user.is_some());
        // The oldest first.
        taken.reverse();
        while let Some(failed) = taken.last().copied() {
            if let Err(failure) = store.log_failed_proof(&failed).await {
                taken.reverse();
                let mut waiting = self.waiting();
                taken.append(&mut waiting);
                self.unwritten.inc_by(taken.len().saturating_sub(WAITING_MAX) as u64);
                taken.truncate(WAITING_MAX);
                *waiting = taken;
                return Err(failure);
            }
            taken.pop();
        }
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Failed>> {
        // A panic while it was held left a list that is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_may_and_what_is_left_out_is_counted() {
        let failures = Failures::new(&mut Registry::default());
        let failed = |user| Failed { user, proof: Proof::Password, at: Timestamp::UNIX_EPOCH };
        for _ in 0..WAITING_MAX {
            failures.note(failed(Some(UserId::new())));
        }
        assert_eq!(failures.unwritten.get(), 0);
        failures.note(failed(None));
        failures.note(failed(Some(UserId::new())));
        assert_eq!((failures.waiting().len(), failures.unwritten.get()), (WAITING_MAX, 2));
        let count = failures.count.get_or_create(&[("proof", "password")]).get();
        assert_eq!(count, WAITING_MAX as u64 + 2);
    }
}
