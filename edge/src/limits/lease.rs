//! Requests that an edge takes from Redis ahead of its callers, so that one question is answered for many of them.
//!
//! What must stay true: no more is let in than if each request had asked. A request of a lease may be made until the time that it
//! was due by (its theoretical arrival): until then it stands in Redis as it would if it were taken now. After that it counts for
//! nothing, since the bucket has filled up meanwhile. What is not made and not due yet is given back by the next question.
//!
//! A lease grows while its caller comes back soon enough to make use of one, and begins anew after that. It is never more than a
//! small share of a limit, so small limits have none.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::limits::rules::RULES_MAX;
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

/// What a caller has of its limits in advance; times are in microseconds by this edge's clock.
#[derive(Debug, Default)]
struct Lease {
    /// Whose it is: a caller and a service.
    owner: u64,
    rules: Vec<Arc<Rule>>,
    /// By each rule, what is left.
    parts: [Part; RULES_MAX],
    /// How many were asked for last, and until when the largest lease from then on would have had some left.
    size: u32,
    horizon: u64,
    /// Whether somebody asks for more.
    is_asked: bool,
}

/// What is left of a lease by one rule.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    left: u32,
    /// When the next of them is due.
    due: u64,
    /// Between two of them.
    interval: u64,
}

/// What a request does.
#[derive(Debug)]
pub(super) enum Step<'l> {
    /// It was taken before: how far ahead of now its caller's next is due, by each rule.
    Taken([Duration; RULES_MAX]),
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
    /// By each rule, how many of those that were left before are to be given back.
    pub(super) back: [u32; RULES_MAX],
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }

    /// Makes a request of those that are held, if there is one.
    pub(super) fn take_held(
        &self,
        owner: u64,
        rules: &[&Arc<Rule>],
        now: Duration,
    ) -> Option<[Duration; RULES_MAX]> {
        let mut lease = lock(self.slot(owner));
        let is_own = lease.owner == owner && lease.is_of(rules);
        if is_own { lease.take(micros(now)) } else { None }
    }

    fn slot(&self, owner: u64) -> &Slot {
        &self.slots[usize::try_from(owner).unwrap_or(usize::MAX) % SLOTS]
    }

    /// A request under these rules, at one of so many edges.
    pub(super) fn take(
        &self,
        owner: u64,
        rules: &[&Arc<Rule>],
        edges: u32,
        now: Duration,
    ) -> Step<'_> {
        let requests_max = requests_max(rules, edges);
        if requests_max < SIZE_MIN {
            return Step::Ask;
        }
        let now = micros(now);
        let slot = self.slot(owner);
        let mut lease = lock(slot);
        if lease.owner != owner {
            if lease.is_asked || lease.is_good(now) {
                return Step::Ask;
            }
            *lease = Lease { owner, ..Lease::default() };
        }
        if lease.is_asked {
            return Step::Wait(slot.answered.notified());
        }
        if lease.is_of(rules) {
            if let Some(ahead) = lease.take(now) {
                return Step::Taken(ahead);
            }
        } else {
            // Other limits hold now: what was taken under the old ones is lost.
            *lease = Lease { owner, ..Lease::default() };
            lease.rules.extend(rules.iter().map(|rule| Arc::clone(rule)));
        }
        let size = if now <= lease.horizon { lease.size * 2 } else { 0 };
        lease.size = size.max(SIZE_MIN).min(requests_max);
        let back = lease.parts.map(|part| part.left);
        lease.parts = Default::default();
        lease.is_asked = true;
        Step::Refill(Refill { slot, requests: lease.size, requests_max, back })
    }
}

impl Lease {
    fn is_of(&self, rules: &[&Arc<Rule>]) -> bool {
        self.rules.len() == rules.len()
            && self.rules.iter().zip(rules).all(|(own, asked)| Arc::ptr_eq(own, asked))
    }

    /// The parts that count.
    fn parts(&mut self) -> &mut [Part] {
        &mut self.parts[..self.rules.len()]
    }

    /// Whether its next request can still be made.
    fn is_good(&mut self, now: u64) -> bool {
        !self.rules.is_empty() && self.parts().iter_mut().all(|part| part.pass(now) > 0)
    }

    /// Makes a request, if one is left by each rule; then says how far ahead of now the next is due.
    fn take(&mut self, now: u64) -> Option<[Duration; RULES_MAX]> {
        if !self.is_good(now) {
            return None;
        }
        let mut ahead = [Duration::ZERO; RULES_MAX];
        for (part, ahead) in self.parts().iter_mut().zip(&mut ahead) {
            part.left -= 1;
            part.due += part.interval;
            *ahead = Duration::from_micros(part.due - now);
        }
        Some(ahead)
    }
}

impl Part {
    /// Leaves out what is due no more, which counts for nothing, and says what is left.
    fn pass(&mut self, now: u64) -> u32 {
        let late = now.saturating_sub(self.due).div_ceil(self.interval.max(1));
        let late = u32::try_from(late).unwrap_or(u32::MAX).min(self.left);
        self.left -= late;
        self.due += self.interval * u64::from(late);
        self.left
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
        mut ahead: [Duration; RULES_MAX],
    ) -> [Duration; RULES_MAX] {
        let left = granted.saturating_sub(1);
        let mut lease = lock(self.slot);
        let Lease { rules, parts, horizon, .. } = &mut *lease;
        *horizon = u64::MAX;
        for ((part, ahead), rule) in parts.iter_mut().zip(&mut ahead).zip(rules) {
            let (interval, _) = rule.micros();
            *ahead = ahead.saturating_sub(Duration::from_micros(interval * u64::from(left)));
            *part = Part { left, due: micros(asked + *ahead), interval };
            *horizon = (*horizon).min(micros(now) + interval * u64::from(self.requests_max));
        }
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

/// How large a lease may be at one of so many edges.
fn requests_max(rules: &[&Arc<Rule>], edges: u32) -> u32 {
    let least = rules.iter().map(|rule| rule.requests).min().unwrap_or(0);
    least / SHARE / edges.max(1)
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

    use crate::limits::rules::Rules;
    use proto::common::v1::Tier;

    /// As `take.lua` has it: a bucket that all edges share.
    #[derive(Default)]
    struct Bucket {
        due: u64,
    }

    impl Bucket {
        /// How many are granted, and how far ahead the next is due then.
        fn take(&mut self, rule: &Rule, requests: u32, back: u32, now: u64) -> (u32, u64) {
            let (interval, burst) = rule.micros();
            let due = self.due.saturating_sub(u64::from(back) * interval).max(now);
            let granted = u64::from(requests).min((burst - (due - now)) / interval);
            self.due = due + granted * interval;
            (u32::try_from(granted).expect("no more than asked for"), self.due - now)
        }
    }

    /// Makes a request at an edge, and says whether it was let in.
    fn ask(
        edge: &Leases,
        edges: u32,
        rules: &[&Arc<Rule>],
        shared: &mut [Bucket],
        now: u64,
    ) -> bool {
        let time = Duration::from_micros(now);
        let (requests, back, refill) = match edge.take(7, rules, edges, time) {
            Step::Taken(_) => return true,
            Step::Ask => (1, [0; RULES_MAX], None),
            Step::Wait(_) => unreachable!("one at a time"),
            Step::Refill(refill) => (refill.requests, refill.back, Some(refill)),
        };
        let all = rules.iter().zip(back).zip(&mut *shared);
        // What is given back is, however the question ends; and all buckets have room for as many.
        let room = all.map(|((rule, back), bucket)| bucket.take(rule, 0, back, now).1);
        let room = room.zip(rules).map(|(ahead, rule)| (rule.micros().1 - ahead) / rule.micros().0);
        let requests = requests.min(u32::try_from(room.min().expect("one")).expect("small"));
        let mut ahead = [Duration::ZERO; RULES_MAX];
        for ((ahead, rule), bucket) in ahead.iter_mut().zip(rules).zip(shared) {
            *ahead = Duration::from_micros(bucket.take(rule, requests, 0, now).1);
        }
        if let Some(refill) = refill {
            refill.fill(requests, [time, time], ahead);
        }
        requests > 0
    }

    proptest! {
        /// R49, with leases at several edges and under several limits: as many as the arithmetic lets in, and not one more.
        #[test]
        fn r49_no_interval_has_more_than_the_burst_and_what_the_rate_allows_with_leases(
            // Mostly bursts, so that buckets get empty.
            steps in prop::collection::vec((prop_oneof![8 => 0_u64..200, 1 => 0_u64..400_000], 0_usize..3), 2..3_000),
        ) {
            let rules = Rules::parse("[tiers]\nfree = 900\n[services.links]\nminute = 1200\nhour = 1000\n");
            let rules = rules.expect("good rules");
            let mut all = vec![rules.tier(Tier::Free)];
            all.extend(rules.service("links"));
            let edges = [Leases::new(), Leases::new(), Leases::new()];
            let mut shared: Vec<Bucket> = all.iter().map(|_| Bucket::default()).collect();
            let (mut now, mut let_in, mut leased) = (1_000_000, Vec::new(), 0);
            for (step, edge) in steps {
                now += step;
                let before: u64 = shared.iter().map(|bucket| bucket.due).sum();
                if ask(&edges[edge], 3, &all, &mut shared, now) {
                    let_in.push(now);
                    let after: u64 = shared.iter().map(|bucket| bucket.due).sum();
                    leased += u32::from(before == after);
                }
            }
            prop_assume!(let_in.len() < 100 || leased > 0);
            for rule in &all {
                let (interval, burst) = rule.micros();
                // The least that an earlier request leaves for a later one: a running minimum instead of all pairs.
                let mut least = u64::MAX;
                for (count, time) in (0_u64..).zip(&let_in) {
                    // count(i..=j) * interval <= burst + (t_j - t_i), over all i: (j + 1) * interval - t_j - burst <= min(i * interval - t_i).
                    least = least.min((count * interval + 1_000_000_000_000) - time);
                    let most = (count + 1) * interval + 1_000_000_000_000 - time;
                    prop_assert!(most <= burst + least, "{}: request {count} at {time}", rule.name);
                }
            }
        }
    }

    #[test]
    fn a_steady_caller_asks_seldom_and_one_that_has_gone_gives_back_what_it_left() {
        let rules = Rules::default();
        let all = [rules.tier(Tier::Enterprise)];
        let (edge, mut shared) = (Leases::new(), [Bucket::default()]);
        let (mut asked, mut now) = (0, 1_000_000);
        for _ in 0..5_000 {
            now += 1_000;
            let before = shared[0].due;
            assert!(ask(&edge, 2, &all, &mut shared, now));
            asked += u32::from(shared[0].due != before);
        }
        assert!(asked < 100, "{asked} questions for 5,000 requests");
        let (interval, burst) = all[0].micros();
        // At once: the rest of the lease is made and the bucket emptied; not one request is missing.
        let more = (0..20_000).filter(|_| ask(&edge, 2, &all, &mut shared, now)).count() as u64;
        let filled = 5_000 * 1_000 / interval;
        assert!((10_000..=10_001).contains(&(5_000 + more - filled)), "{more}");
        now += burst;
        assert!(ask(&edge, 2, &all, &mut shared, now));
        assert!(shared[0].due - now <= 2 * interval, "what lapsed counts for nothing");
    }

    #[test]
    fn small_limits_and_what_is_asked_for_meanwhile_have_no_lease() {
        let rules = Rules::default();
        let take = |leases: &Leases, tier, edges| match leases.take(
            1,
            &[rules.tier(tier)],
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
        let tier = &[rules.tier(Tier::Enterprise)][..];
        let Step::Refill(refill) = leases.take(1, tier, 1, Duration::ZERO) else {
            panic!("it asks for more")
        };
        assert_eq!(take(&leases, Tier::Enterprise, 1), 0, "somebody asks already");
        drop(refill);
        assert_eq!(take(&leases, Tier::Enterprise, 1), 4, "that question came to nothing");
    }
}
