//! Deterministic aperture (Finagle's): which slice of a service's instances a caller uses.
//!
//! Callers and instances lie on two rings. A caller begins at its ordinal's place and takes a whole number of callers' arcs, so each
//! point of the instances' ring is covered by equally many callers: the load is even, though nobody asks the others. An instance
//! on an edge gets the share of its arc that is covered.

use crate::registry::Roster;
use rapidhash::v3::RapidSecrets;
use rapidhash::v3::rapidhash_v3_seeded;
use std::collections::btree_map::Range;

/// A caller's place among the callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// How many callers are before it.
    pub(crate) ordinal: usize,
    /// How many there are.
    pub(crate) count: usize,
}

impl Position {
    /// The place of one among the callers of its zone, or of all zones; none if it has no ordinal yet.
    pub(crate) fn of(roster: &Roster, zone: Option<&str>) -> Option<Self> {
        let own = roster.own?;
        let is_counted = |of: &String| zone.is_none_or(|zone| zone == of);
        let count = |zones: Range<'_, u32, String>| zones.filter(|(_, of)| is_counted(of)).count();
        // By order, not by number: who left before a gap was filled leaves no hole in the ring.
        Some(Self {
            ordinal: count(roster.zones.range(..own)),
            count: count(roster.zones.range(..)),
        })
    }
}

/// The order of an instance on its ring: the same for every caller, and unlike the order in which instances were started.
pub(super) fn place(instance: &str) -> u64 {
    const SECRETS: RapidSecrets = RapidSecrets::seed_cpp(0);
    rapidhash_v3_seeded(instance.as_bytes(), &SECRETS)
}

/// The share of each instance's arc that the caller at `position` uses, 0 to 1. The arcs are as wide as `weights`, in the order of
/// [`place`]; the caller uses `instances_min` of them at least, and all if there are no more.
#[expect(clippy::cast_precision_loss, reason = "thousands at most")]
pub(super) fn coverage(weights: &[f32], position: Position, instances_min: usize) -> Vec<f32> {
    let Position { ordinal, count } = position;
    assert!(ordinal < count, "a caller is one of the callers");
    let instances = weights.len().max(1);
    let arcs = (instances_min * count).div_ceil(instances);
    if arcs >= count {
        return vec![1.0; weights.len()];
    }
    let (from, width) = (ordinal as f64 / count as f64, arcs as f64 / count as f64);
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut start = 0.0;
    let mut shares = Vec::with_capacity(weights.len());
    for weight in weights {
        let arc = f64::from(*weight) / sum;
        // The slice may go past the ring's end, and begin it again.
        let covered = [0.0, 1.0].map(|turn| overlap((start + turn, arc), (from, width)));
        let share = (covered[0] + covered[1]) / arc;
        // A sliver is rounding.
        shares.push(if share < 1e-6 { 0.0 } else { as_share(share) });
        start += arc;
    }
    shares
}

/// How much of two arcs, each a start and a width, is both.
fn overlap(one: (f64, f64), other: (f64, f64)) -> f64 {
    let end = (one.0 + one.1).min(other.0 + other.1);
    (end - one.0.max(other.0)).max(0.0)
}

#[expect(clippy::cast_possible_truncation, reason = "a share")]
fn as_share(share: f64) -> f32 {
    share.min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn slices(weights: &[f32], count: usize, instances_min: usize) -> Vec<Vec<f32>> {
        let slice = |ordinal| coverage(weights, Position { ordinal, count }, instances_min);
        (0..count).map(slice).collect()
    }

    fn used(slice: &[f32]) -> usize {
        slice.iter().filter(|share| **share > 0.0).count()
    }

    #[test]
    fn every_instance_gets_its_share_whatever_the_numbers() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..300 {
            let (callers, instances) = (random.random_range(1..200), random.random_range(1..200));
            let instances_min = random.random_range(2..40);
            let weights: Vec<f32> =
                (0..instances).map(|_| [1.0, 1.0, 2.0][random.random_range(0..3)]).collect();
            let sum: f32 = weights.iter().sum();
            let mut loads = vec![0.0; instances];
            for slice in slices(&weights, callers, instances_min) {
                // A caller spreads its calls over its slice by weight and share.
                let whole: f32 =
                    slice.iter().zip(&weights).map(|(share, weight)| share * weight).sum();
                for ((load, share), weight) in loads.iter_mut().zip(&slice).zip(&weights) {
                    *load += share * weight / whole;
                }
            }
            for (load, weight) in loads.iter().zip(&weights) {
                let expected = weight / sum * u16::try_from(callers).map(f32::from).unwrap();
                assert!((load - expected).abs() / expected < 0.01, "{load}, not {expected}");
            }
        }
    }

    #[test]
    fn a_slice_is_as_large_as_asked_for_and_not_much_larger() {
        for (callers, instances, instances_min) in
            [(10, 100, 12), (100, 100, 12), (50, 13, 12), (3, 1_000, 12), (7, 5, 12), (1, 100, 12)]
        {
            let weights = vec![1.0; instances];
            for slice in slices(&weights, callers, instances_min) {
                let (used, least) = (used(&slice), instances_min.min(instances));
                assert!(used >= least, "{used} of {instances} for {callers}");
                // One caller's arc more, and the two edges.
                let most = instances_min + instances.div_ceil(callers) + 2;
                assert!(
                    used <= most.min(instances).max(least),
                    "{used} of {instances} for {callers}"
                );
            }
        }
    }

    #[test]
    fn an_instance_or_a_caller_more_changes_little() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..100 {
            let (callers, instances) = (random.random_range(20..100), random.random_range(50..200));
            let before = slices(&vec![1.0; instances], callers, 12);
            let changed = |after: &[Vec<f32>], at: &dyn Fn(usize) -> usize| {
                let lost = |(before, after): (&Vec<f32>, &Vec<f32>)| {
                    (0..instances).filter(|i| before[*i] > 0.0 && after[at(*i)] == 0.0).count()
                };
                before.iter().zip(after).map(lost).max().unwrap()
            };
            let joins = random.random_range(0..=instances);
            let after = slices(&vec![1.0; instances + 1], callers, 12);
            let lost = changed(&after, &|at| if at < joins { at } else { at + 1 });
            // A slice is whole callers' arcs, so its width may shrink by one of them.
            let arc = instances.div_ceil(callers);
            assert!(lost <= arc + 2, "{lost} lost by an instance of {instances} for {callers}");
            let after = slices(&vec![1.0; instances], callers + 1, 12);
            let lost = changed(&after, &|at| at);
            assert!(lost <= 2 * arc + 2, "{lost} lost by a caller of {callers} for {instances}");
        }
    }

    #[test]
    fn a_callers_place_is_among_those_of_its_zone_or_among_all() {
        let zones = [(0, "a"), (1, "b"), (3, "a"), (4, "a")];
        let zones = zones.map(|(ordinal, zone)| (ordinal, zone.to_owned())).into();
        let roster = Roster { own: Some(3), zones };
        assert_eq!(Position::of(&roster, Some("a")), Some(Position { ordinal: 1, count: 3 }));
        assert_eq!(Position::of(&roster, None), Some(Position { ordinal: 2, count: 4 }));
        assert_eq!(Position::of(&Roster::default(), None), None);
    }

    #[test]
    fn instances_are_in_the_same_order_everywhere() {
        // Written down, so that a change is noticed: callers of two versions must agree.
        assert_eq!(place("links-1"), place("links-1"));
        assert_ne!(place("links-1"), place("links-2"));
    }
}
