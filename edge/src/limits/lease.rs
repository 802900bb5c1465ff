//! Requests that an edge takes from Redis ahead of its callers, so that one question is answered for many of them.
//!
//! What must stay true: no more is let in than if each request had asked. A request of a lease may be made until the time that it
//! was due by (its theoretical arrival): until then it stands in Redis as it would if it were taken now. After that it counts for
//! nothing, since the bucket has filled up meanwhile. So nothing is ever given back, which would move what others hold.
//!
//! A lease is of one limit. Where a service has limits of its own, each request asks: what lapses by one of them may not have by
//! another, and would be lost. A lease grows while its caller comes back soon enough to make use of one, and begins anew after that. It
//! is never more than a small share of a limit, so small limits have none.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::limits::rules::Rule;

/// Callers that may have leases at once; others ask for each request.
const SLOTS: usize = 4_096;
/// Requests that are asked for at once, the one that asks included, at first.
const SIZE_MIN: u32 = 2;
/// The share of a limit that all edges together may hold in leases, as its reciprocal: what a caller may find taken at one edge
/// that it would use at another.
const SHARE: u32 = 64;

/// The leases of this edge.
#[derive(Debug)]
pub(super) struct Leases {
    slots: Box<[Slot]>,
}

/// A lease, and those who wait for what somebody asks for.
#[derive(Debug, Default)]
struct Slot {
    lease: Mutex<Lease>,
    answered: Notify,
}

/// What a caller has of its limit in advance; times are in microseconds by this edge's clock.
#[derive(Debug, Default)]
struct Lease {
    /// Whose it is.
    owner: u64,
    /// Under which limit, and what is between two requests by it.
    rule: Option<Arc<Rule>>,
    interval: u64,
    left: u32,
    /// When the next of them is due.
    due: u64,
    /// How many were asked for last, and until when the largest lease from then on would have had some left.
    size: u32,
    horizon: u64,
    /// Whether somebody asks for more, and how many wait for that.
    is_asked: bool,
    waiting: u32,
}

/// What a request does.
#[derive(Debug)]
pub(super) enum Step<'l> {
    /// It was taken before: how far ahead of now its caller's next is due.
    Taken(Duration),
    /// It asks for itself.
    Ask,
    /// It asks for itself and those that come after it.
    Refill(Refill<'l>),
    /// It looks again when the question is answered that somebody has asked.
    Wait(Notified<'l>),
}

/// A question on behalf of a lease. While it is open, others under the same lease wait for it.
#[derive(Debug)]
pub(super) struct Refill<'l> {
    slot: &'l Slot,
    /// How many requests to ask for.
    pub(super) requests: u32,
    /// How many the largest lease has.
    requests_max: u32,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }

    /// Makes a request of those that are held, if there is one: how far ahead of now the next is due then.
    pub(super) fn take_held(
        &self,
        owner: u64,
        rule: &Arc<Rule>,
        now: Duration,
    ) -> Option<Duration> {
        let mut lease = lock(self.slot(owner));
        let is_own = lease.owner == owner && lease.is_of(rule);
        if is_own { lease.take(micros(now)) } else { None }
    }

    /// A request under this limit, at one of so many edges.
    pub(super) fn take(&self, owner: u64, rule: &Arc<Rule>, edges: u32, now: Duration) -> Step<'_> {
        let requests_max = rule.requests / SHARE / edges.max(1);
        if requests_max < SIZE_MIN {
            return Step::Ask;
        }
        let now = micros(now);
        let slot = self.slot(owner);
        let mut lease = lock(slot);
        if lease.owner != owner {
            if lease.is_asked || lease.pass(now) > 0 {
                return Step::Ask;
            }
            *lease = Lease { owner, ..Lease::default() };
        }
        if lease.is_asked {
            lease.waiting += 1;
            return Step::Wait(slot.answered.notified());
        }
        if !lease.is_of(rule) {
            // Another limit holds now: what was taken under the old one is lost.
            let (interval, _) = rule.micros();
            *lease = Lease { owner, rule: Some(Arc::clone(rule)), interval, ..Lease::default() };
        } else if let Some(ahead) = lease.take(now) {
            return Step::Taken(ahead);
        }
        let size = if now <= lease.horizon { lease.size * 2 } else { SIZE_MIN };
        lease.size = size.max(SIZE_MIN).max(lease.waiting + 1).min(requests_max);
        (lease.is_asked, lease.waiting) = (true, 0);
        Step::Refill(Refill { slot, requests: lease.size, requests_max })
    }

    fn slot(&self, owner: u64) -> &Slot {
        &self.slots[usize::try_from(owner).unwrap_or(usize::MAX) % SLOTS]
    }
}

impl Lease {
    fn is_of(&self, rule: &Arc<Rule>) -> bool {
        self.rule.as_ref().is_some_and(|own| Arc::ptr_eq(own, rule))
    }

    /// Leaves out what is due no more, which counts for nothing, and says what is left.
    fn pass(&mut self, now: u64) -> u32 {
        let late = now.saturating_sub(self.due).div_ceil(self.interval.max(1));
        let late = u32::try_from(late).unwrap_or(u32::MAX).min(self.left);
        self.left -= late;
        self.due += self.interval * u64::from(late);
        self.left
    }

    /// Makes a request, if one is left; then says how far ahead of now the next is due.
    fn take(&mut self, now: u64) -> Option<Duration> {
        if self.pass(now) == 0 {
            return None;
        }
        self.left -= 1;
        self.due += self.interval;
        Some(Duration::from_micros(self.due - now))
    }
}

impl Refill<'_> {
    /// Puts what was granted beyond the one request that asked into the lease. `asked` and `now` are when the question was sent and
    /// answered, and `ahead` how far ahead of the former Redis says that the next request after all of them is due; what comes
    /// back is how far that is after the one.
    pub(super) fn fill(
        self,
        granted: u32,
        [asked, now]: [Duration; 2],
        ahead: Duration,
    ) -> Duration {
        let mut lease = lock(self.slot);
        lease.left = granted.saturating_sub(1);
        let held = Duration::from_micros(lease.interval * u64::from(lease.left));
        let ahead = ahead.saturating_sub(held);
        lease.due = micros(asked + ahead);
        lease.horizon = micros(now) + lease.interval * u64::from(self.requests_max);
        ahead
    }
}

impl Drop for Refill<'_> {
    /// However the question ended.
    fn drop(&mut self) {
        lock(self.slot).is_asked = false;
        self.slot.answered.notify_waiters();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn lock(slot: &Slot) -> MutexGuard<'_, Lease> {
    slot.lease.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use proto::common::v1::Tier;

    use crate::limits::rules::Rules;

    /// As `take.lua` has it: a bucket that all edges share.
    #[derive(Default)]
    struct Bucket {
        due: u64,
    }

    impl Bucket {
        /// How many are granted, and how far ahead the next is due then.
        fn take(&mut self, rule: &Rule, requests: u32, now: u64) -> (u32, Duration) {
            let (interval, burst) = rule.micros();
            let due = self.due.max(now);
            let granted = u64::from(requests).min((burst - (due - now)) / interval);
            self.due = due + granted * interval;
            let granted = u32::try_from(granted).expect("no more than asked for");
            (granted, Duration::from_micros(self.due - now))
        }
    }

    /// Makes a request at an edge, and says whether it was let in.
    fn ask(edge: &Leases, edges: u32, rule: &Arc<Rule>, shared: &mut Bucket, now: u64) -> bool {
        let time = Duration::from_micros(now);
        match edge.take(7, rule, edges, time) {
            Step::Taken(_) => true,
            Step::Wait(_) => unreachable!("one at a time"),
            Step::Ask => shared.take(rule, 1, now).0 == 1,
            Step::Refill(refill) => {
                let (granted, ahead) = shared.take(rule, refill.requests, now);
                refill.fill(granted, [time, time], ahead);
                granted > 0
            }
        }
    }

    proptest! {
        /// R49, with leases at several edges, while others ask for each request: as many as the arithmetic lets in, and not one more.
        #[test]
        fn r49_no_interval_has_more_than_the_burst_and_what_the_rate_allows_with_leases(
            // Mostly bursts, so that buckets get empty.
            steps in prop::collection::vec(
                (prop_oneof![8 => 0_u64..200, 1 => 0_u64..400_000], 0_usize..4), 2..3_000),
        ) {
            let rules = Rules::parse("[tiers]\nfree = 900\n").expect("good rules");
            let rule = rules.tier(Tier::Free);
            let (interval, burst) = rule.micros();
            let edges = [Leases::new(), Leases::new(), Leases::new()];
            let (mut shared, mut let_in, mut leased) = (Bucket::default(), Vec::new(), 0);
            let mut now = 1_000_000;
            for (step, place) in steps {
                now += step;
                let before = shared.due;
                let is_let_in = match edges.get(place) {
                    Some(edge) => ask(edge, 3, rule, &mut shared, now),
                    None => shared.take(rule, 1, now).0 == 1,
                };
                if is_let_in {
                    let_in.push(now);
                    leased += u32::from(before == shared.due);
                }
            }
            prop_assume!(let_in.len() < 100 || leased > 0);
            // Of request i at t_i and any later j: (j - i + 1) * interval <= burst + t_j - t_i.
            let mut least = u64::MAX;
            const BASE: u64 = 1_000_000_000_000;
            for (count, time) in (0_u64..).zip(&let_in) {
                least = least.min(BASE + count * interval - time);
                let most = BASE + (count + 1) * interval - time;
                prop_assert!(most <= burst + least, "request {count} at {time}");
            }
        }
    }

    #[test]
    fn a_steady_caller_asks_seldom_and_loses_nothing_of_its_limit() {
        let rules = Rules::default();
        let rule = rules.tier(Tier::Enterprise);
        let (edge, mut shared) = (Leases::new(), Bucket::default());
        let (mut asked, mut now) = (0, 1_000_000);
        for _ in 0..5_000 {
            now += 1_000;
            let before = shared.due;
            assert!(ask(&edge, 2, rule, &mut shared, now));
            asked += u32::from(shared.due != before);
        }
        assert!(asked < 100, "{asked} questions for 5,000 requests");
        let (interval, burst) = rule.micros();
        // At once: the rest of the lease is made and the bucket emptied; not one request is missing.
        let more = (0..20_000).filter(|_| ask(&edge, 2, rule, &mut shared, now)).count() as u64;
        let filled = 5_000 * 1_000 / interval;
        assert!((10_000..=10_001).contains(&(5_000 + more - filled)), "{more}");
        now += burst;
        assert!(ask(&edge, 2, rule, &mut shared, now));
        assert!(shared.due - now <= 2 * interval, "what lapsed counts for nothing");
    }

    #[test]
    fn small_limits_have_no_lease_and_who_comes_meanwhile_waits_and_is_asked_for_next() {
        let rules = Rules::default();
        let take = |leases: &Leases, tier, edges| match leases.take(
            1,
            rules.tier(tier),
            edges,
            Duration::ZERO,
        ) {
            Step::Refill(refill) => refill.requests,
            Step::Ask => 1,
            Step::Taken(_) | Step::Wait(_) => 0,
        };
        let leases = Leases::new();
        assert_eq!(take(&leases, Tier::Free, 1), 1);
        assert_eq!(take(&leases, Tier::Premium, 8), 1);
        let rule = rules.tier(Tier::Enterprise);
        let Step::Refill(refill) = leases.take(1, rule, 1, Duration::ZERO) else {
            panic!("it asks for more")
        };
        assert_eq!(refill.requests, SIZE_MIN);
        for _ in 0..50 {
            assert_eq!(take(&leases, Tier::Enterprise, 1), 0, "somebody asks already");
        }
        drop(refill);
        assert_eq!(take(&leases, Tier::Enterprise, 1), 51, "that question came to nothing");
    }
}
