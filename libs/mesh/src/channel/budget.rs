//! How many retries are allowed: a share of the calls of late, and a few a second, so that a service that fails is not
//! buried under second attempts.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How many seconds count as "of late".
const SECONDS: u64 = 10;
/// A slot for each of them.
const SLOTS: usize = 10;
/// What one call adds, in thousandths of a retry: 20 %.
const PER_CALL: i64 = 200;
/// What one retry takes.
const PER_RETRY: i64 = 1_000;
/// What there is without any calls: 10 retries a second.
const RESERVE: i64 = 10 * 1_000 * 10;

const _: () = assert!(SECONDS == 10 && SLOTS == 10, "the reserve counts with 10 seconds");

#[derive(Debug)]
pub(super) struct Budget {
    started: Instant,
    slots: [Slot; SLOTS],
}

#[derive(Debug)]
struct Slot {
    second: AtomicU64,
    balance: AtomicI64,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        let slot = || Slot { second: AtomicU64::new(0), balance: AtomicI64::new(0) };
        Self { started: now, slots: std::array::from_fn(|_| slot()) }
    }

    /// Counts a call.
    pub(super) fn deposit(&self, now: Instant) {
        self.slot(self.second(now)).balance.fetch_add(PER_CALL, Ordering::Relaxed);
    }

    /// Takes what a retry costs; false if there is not enough.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        let second = self.second(now);
        let current = self.slot(second);
        let oldest = second.saturating_sub(SECONDS - 1);
        let balance: i64 = self
            .slots
            .iter()
            .filter(|slot| slot.second.load(Ordering::Relaxed) >= oldest)
            .map(|slot| slot.balance.load(Ordering::Relaxed))
            .sum();
        if RESERVE + balance < PER_RETRY {
            return false;
        }
        current.balance.fetch_sub(PER_RETRY, Ordering::Relaxed);
        true
    }

    /// The slot of a second, emptied if it was last used for another. Two calls may do so at the same moment, which loses
    /// what the faster one counted: a fraction of a retry.
    fn slot(&self, second: u64) -> &Slot {
        let at = usize::try_from(second % SECONDS).expect("less than the number of slots");
        let slot = &self.slots[at];
        if slot.second.load(Ordering::Relaxed) != second
            && slot.second.swap(second, Ordering::Relaxed) != second
        {
            slot.balance.store(0, Ordering::Relaxed);
        }
        slot
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn retries(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn retries_are_a_fifth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(retries(&budget, start), 100);
        for _ in 0..1_000 {
            budget.deposit(start);
        }
        assert_eq!(retries(&budget, start), 200);
        assert_eq!(retries(&budget, start + Duration::from_secs(9)), 0);
        assert_eq!(retries(&budget, start + Duration::from_secs(10)), 100);
    }

    #[test]
    fn calls_of_long_ago_do_not_count() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..1_000 {
            budget.deposit(start);
        }
        assert_eq!(retries(&budget, start + Duration::from_secs(60)), 100);
    }
}
