//! Limits that this edge keeps by itself: a fixed table of buckets, each one number that is taken from with one compare-and-swap. No
//! lock, no allocation, and no bound but its own size.
//!
//! A bucket that is full again is as good as none, so its place is free for another key: nothing is ever evicted that matters. Where
//! all places of a set are in use a key shares the bucket that is used least, until another place is free for it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh::gcra;
use mesh::gcra::Gcra;

/// Places where a key may be: a cache line of them.
const WAYS: usize = 8;
/// Bits of a bucket that say when its next request is due; those above them say whose it is. In a set of eight, two keys are taken
/// for one (and held to one limit) once in 8,000 pairs.
const ARRIVAL_BITS: u32 = 48;
const ARRIVAL_MASK: u64 = (1 << ARRIVAL_BITS) - 1;
/// Of the arithmetic's ticks, as a power of two: the clock here counts in 1.024 µs, and for nine years.
const UNIT_BITS: u32 = 14;
/// What the rates that are kept here must count by.
pub(super) const UNIT: u64 = 1 << UNIT_BITS;

/// Buckets by key. A key is the hash of whatever it stands for.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A place in a set.
struct Place<'t> {
    slot: &'t AtomicU64,
    seen: u64,
    /// Whose it is from now on.
    owner: u64,
    arrival: u64,
    is_own: bool,
}

impl Table {
    /// For at least so many keys at once.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::default()).collect() }
    }

    /// Takes one request from a key's bucket, and says how far ahead of now its next is due; or how long to wait.
    pub(super) fn take(&self, key: u64, rate: &Gcra, now: Duration) -> Result<Duration, Duration> {
        let now = units(now);
        loop {
            let place = self.place(key, now);
            let next = rate.next(place.arrival << UNIT_BITS, now << UNIT_BITS, 1)?;
            if place.put(next.div_ceil(UNIT)) {
                return Ok(gcra::duration(next - (now << UNIT_BITS)));
            }
        }
    }

    /// How long until a key's next request fits; `None` if it does now. Takes nothing.
    pub(super) fn wait(&self, key: u64, rate: &Gcra, now: Duration) -> Option<Duration> {
        let now = units(now);
        let arrival = self.place(key, now).arrival << UNIT_BITS;
        rate.next(arrival, now << UNIT_BITS, 1).err()
    }

    /// How far ahead of now a key's next request is due.
    pub(super) fn ahead(&self, key: u64, now: Duration) -> Duration {
        let now = units(now);
        gcra::duration(self.place(key, now).arrival.saturating_sub(now) << UNIT_BITS)
    }

    /// Gives back what was taken for a request that shall not count.
    pub(super) fn give_back(&self, key: u64, rate: &Gcra, now: Duration) {
        loop {
            let place = self.place(key, units(now));
            let arrival = rate.previous(place.arrival << UNIT_BITS);
            if !place.is_own || place.put(arrival.div_ceil(UNIT)) {
                return;
            }
        }
    }

    /// Takes notice of how far ahead of now a key's next request is due by what all edges share. What was taken here stays taken:
    /// those who share know nothing of it.
    pub(super) fn learn(&self, key: u64, ahead: Duration, now: Duration) {
        let arrival = units(now) + gcra::ticks(ahead).div_ceil(UNIT);
        loop {
            let place = self.place(key, units(now));
            if !place.is_own || arrival <= place.arrival || place.put(arrival) {
                return;
            }
        }
    }

    fn place(&self, key: u64, now: u64) -> Place<'_> {
        let last = self.sets.len() - 1;
        let set = &self.sets[usize::try_from(key).unwrap_or(usize::MAX) & last].0;
        let own = key & !ARRIVAL_MASK;
        let (mut free, mut least) = (None, None::<(&AtomicU64, u64)>);
        for slot in set {
            let seen = slot.load(Ordering::Relaxed);
            let arrival = seen & ARRIVAL_MASK;
            if seen & !ARRIVAL_MASK == own {
                return Place { slot, seen, owner: own, arrival, is_own: true };
            }
            if arrival <= now && free.is_none() {
                free = Some((slot, seen));
            }
            if least.is_none_or(|(_, least)| arrival < least & ARRIVAL_MASK) {
                least = Some((slot, seen));
            }
        }
        if let Some((slot, seen)) = free {
            return Place { slot, seen, owner: own, arrival: 0, is_own: true };
        }
        let (slot, seen) = least.expect("a set has places");
        let owner = seen & !ARRIVAL_MASK;
        Place { slot, seen, owner, arrival: seen & ARRIVAL_MASK, is_own: false }
    }
}

/// A time by the clock here.
fn units(time: Duration) -> u64 {
    gcra::ticks(time) >> UNIT_BITS
}

impl Place<'_> {
    /// False if the bucket has changed since it was looked at.
    fn put(&self, arrival: u64) -> bool {
        let new = self.owner | arrival.min(ARRIVAL_MASK);
        let (slot, seen) = (self.slot, self.seen);
        slot.compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// So many times what the clock counts in.
    fn ticks_of_the_clock(count: u64) -> Duration {
        Duration::from_nanos(1_024 * count)
    }

    fn rate(requests: u32, per: Duration) -> Gcra {
        Gcra::new(requests, per, requests).by(UNIT)
    }

    /// Spread as hashes are.
    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
    }

    proptest! {
        /// R49.
        #[test]
        fn r49_no_interval_has_more_than_the_burst_and_what_the_rate_allows(
            requests in 1_u32..=1_000,
            steps in prop::collection::vec((0_u64..=20_000, 0_u64..40), 2..500),
        ) {
            let (table, rate) = (Table::new(1_024), rate(requests, SECOND));
            let (mut now, mut taken) = (ticks_of_the_clock(1), vec![Vec::new(); 40]);
            for (step, who) in steps {
                now += ticks_of_the_clock(step);
                if table.take(key(who), &rate, now).is_ok() {
                    taken[usize::try_from(who).expect("small")].push(now);
                }
            }
            for taken in taken {
                for (first, from) in taken.iter().enumerate() {
                    for (last, to) in taken.iter().enumerate().skip(first) {
                        let allowed = u128::from(requests)
                            + (*to - *from).as_nanos() * u128::from(requests) / 1_000_000_000;
                        prop_assert!((last - first + 1) as u128 <= allowed);
                    }
                }
            }
        }

        /// The other way round: where there is room for all keys, nobody is refused too early.
        #[test]
        fn who_waits_as_long_as_it_was_told_is_let_in(
            requests in 1_u32..=10_000,
            steps in prop::collection::vec((0_u64..=2_000, 0_u64..8), 2..400),
        ) {
            let (table, rate) = (Table::new(4_096), rate(requests, SECOND));
            let mut now = ticks_of_the_clock(1);
            for (step, who) in steps {
                now += ticks_of_the_clock(step);
                if let Err(wait) = table.take(key(who), &rate, now) {
                    now += wait;
                    prop_assert!(table.take(key(who), &rate, now).is_ok());
                }
            }
        }
    }

    #[test]
    fn keys_do_not_share_while_there_is_room() {
        let (table, rate) = (Table::new(4_096), rate(2, SECOND));
        for who in 0..400 {
            assert!(table.take(key(who), &rate, SECOND).is_ok());
            assert!(table.take(key(who), &rate, SECOND).is_ok());
            let wait = table.take(key(who), &rate, SECOND).expect_err("it has had two");
            assert_eq!(wait.as_millis(), 500);
        }
    }

    #[test]
    fn a_place_is_free_again_once_its_bucket_is_full() {
        let (table, rate) = (Table::new(8), rate(1, SECOND));
        let taken = |now| (0..100).filter(|who| table.take(key(*who), &rate, now).is_ok()).count();
        let later = |seconds| taken(seconds * SECOND + ticks_of_the_clock(10));
        assert_eq!((taken(SECOND), later(2), taken(2 * SECOND), later(4)), (8, 8, 0, 8));
    }

    #[test]
    fn what_was_given_back_or_learned_counts() {
        let (table, rate) = (Table::new(64), rate(10, SECOND));
        table.learn(key(1), SECOND, SECOND);
        assert!(table.take(key(1), &rate, SECOND).is_err());
        table.give_back(key(1), &rate, SECOND);
        assert!(table.take(key(1), &rate, SECOND).is_ok());
        assert!(table.ahead(key(1), SECOND) >= SECOND);
        let taken = table.ahead(key(1), SECOND);
        table.learn(key(1), Duration::ZERO, SECOND);
        assert_eq!(table.ahead(key(1), SECOND), taken, "what others know takes nothing back");
    }

    #[test]
    fn threads_that_take_at_once_share_one_burst() {
        let (table, rate) = (Table::new(64), rate(1_000, 3_600 * SECOND));
        let take_many = || (0..1_000).filter(|_| table.take(key(5), &rate, SECOND).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_many)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it takes")).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
