//! Which part of a service's instances an attempt goes to: a split's shares, of which one without a usable instance yields to
//! the others.

use super::routes::Route;
use crate::policy::Policy;
use crate::policy::Share;
use rand::RngExt as _;
use std::sync::Arc;
use std::time::Instant;

/// To which instances a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// To all alike, or to subsets by their shares.
    Split(&'a [Share]),
    /// To one subset.
    Subset(usize),
}

impl Target<'_> {
    /// The subset of `policy` that an attempt goes to over `route`; none: to all.
    pub(super) fn choose(self, policy: &Arc<Policy>, route: &Route, now: Instant) -> Option<usize> {
        let there = |subset| place(policy, route, subset);
        match self {
            Self::Split([]) => None,
            Self::Subset(subset) => there(subset),
            Self::Split(shares) => {
                let usable = |share: &Share| route.is_usable(there(share.subset), now);
                there(choose(shares, usable, |total| rand::rng().random_range(0..total))?)
            }
        }
    }
}

/// Where a subset is in the policy that a route has now, which may have replaced the call's.
fn place(policy: &Arc<Policy>, route: &Route, subset: usize) -> Option<usize> {
    if Arc::ptr_eq(policy, &route.policy) {
        return Some(subset);
    }
    let name = &policy.subsets.get(subset)?.name;
    route.policy.subsets.iter().position(|other| other.name == *name)
}

/// One of the usable shares, by weight; of all, if none is usable: then the call waits for one.
fn choose(
    shares: &[Share],
    usable: impl Fn(&Share) -> bool,
    random_below: impl FnOnce(u64) -> u64,
) -> Option<usize> {
    let mut weights: Vec<u64> = Vec::with_capacity(shares.len());
    weights.extend(
        shares.iter().map(|share| {
            if share.weight > 0 && usable(share) { u64::from(share.weight) } else { 0 }
        }),
    );
    if weights.iter().all(|weight| *weight == 0) {
        weights.clear();
        weights.extend(shares.iter().map(|share| u64::from(share.weight)));
    }
    let total: u64 = weights.iter().sum();
    let mut at = if total == 0 { return None } else { random_below(total) };
    for (share, weight) in shares.iter().zip(weights) {
        if at < weight {
            return Some(share.subset);
        }
        at -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32]) -> Vec<Share> {
        weights.iter().enumerate().map(|(subset, &weight)| Share { subset, weight }).collect()
    }

    /// How often each subset is chosen, over every random number.
    fn counts(weights: &[u32], usable: &[usize]) -> Vec<usize> {
        let shares = shares(weights);
        let mut counts = vec![0; weights.len()];
        let mut total = 1;
        for number in 0.. {
            let below = |bound| {
                total = bound;
                number
            };
            let chosen = choose(&shares, |share| usable.contains(&share.subset), below);
            if number >= total {
                break;
            }
            counts[chosen.unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn calls_are_split_by_weight() {
        assert_eq!(counts(&[90, 10], &[0, 1]), [90, 10]);
        assert_eq!(counts(&[1, 0, 3], &[0, 1, 2]), [1, 0, 3]);
    }

    #[test]
    fn a_share_without_a_usable_instance_goes_to_the_others() {
        assert_eq!(counts(&[90, 10], &[1]), [0, 10]);
        assert_eq!(counts(&[50, 30, 20], &[0, 2]), [50, 0, 20]);
    }

    #[test]
    fn without_any_usable_instance_the_weights_hold() {
        assert_eq!(counts(&[90, 10], &[]), [90, 10]);
        assert_eq!(counts(&[0, 10], &[0]), [0, 10], "a weight of 0 is no share");
    }
}
