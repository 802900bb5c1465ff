//! A ring of hashes: the same key goes to the same endpoint, and most keys stay where they are when one joins or leaves.

use rapidhash::v3::RapidSecrets;
use rapidhash::v3::rapidhash_v3_seeded;

/// Points of an endpoint of mean weight, if there are few; with many, less, so that the ring stays small.
const POINTS_EACH_MAX: usize = 160;
const POINTS_EACH_MIN: usize = 40;
const POINTS_WANTED: usize = 40_960;
/// How many points a key passes at most on its way to an endpoint that can take it.
const WALK_MAX: usize = 64;

/// Points and whose they are, in order.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u32, u32)]>);

impl Ring {
    /// A ring of endpoints with these names and weights.
    #[expect(clippy::cast_precision_loss, reason = "thousands of endpoints at most")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousand points"
    )]
    pub(super) fn new<'a>(
        endpoints: impl ExactSizeIterator<Item = (&'a str, f32)> + Clone,
    ) -> Self {
        let count = endpoints.len().max(1);
        let each = (POINTS_WANTED / count).clamp(POINTS_EACH_MIN, POINTS_EACH_MAX) as f32;
        let mean = endpoints.clone().map(|(_, weight)| weight).sum::<f32>() / count as f32;
        let mut points = Vec::new();
        for (at, (name, weight)) in endpoints.enumerate() {
            let at = u32::try_from(at).expect("thousands of endpoints at most");
            let share = (each * weight / mean).clamp(1.0, each * POINTS_EACH_MAX as f32) as u64;
            points.extend((0..share).map(|point| (hash(name, point), at)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The endpoints that a key may go to, the best first; one may come up more than once.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let key = upper(key);
        let start = self.0.partition_point(|(point, _)| *point < key);
        let walk = self.0[start..].iter().chain(&self.0[..start]);
        walk.take(WALK_MAX).map(|(_, at)| *at as usize)
    }
}

/// The same in every process.
fn hash(name: &str, point: u64) -> u32 {
    upper(rapidhash_v3_seeded(name.as_bytes(), &RapidSecrets::seed_cpp(point)))
}

fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KEYS: u64 = 20_000;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("links-{at}")).collect()
    }

    fn ring(names: &[String]) -> Ring {
        Ring::new(names.iter().map(|name| (name.as_str(), 1.0)))
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..KEYS).map(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    #[test]
    fn keys_spread_over_all_by_weight() {
        let names = names(5);
        let weights = [1.0, 1.0, 1.0, 1.0, 4.0];
        let ring = Ring::new(names.iter().map(String::as_str).zip(weights));
        let mut found = [0_u64; 5];
        keys().for_each(|key| found[ring.walk(key).next().unwrap()] += 1);
        for (found, weight) in found.into_iter().zip([1, 1, 1, 1, 4]) {
            let expected = KEYS * weight / 8;
            assert!(found.abs_diff(expected) < expected / 4, "{found}, not {expected}");
        }
    }

    #[test]
    fn only_the_keys_of_one_that_leaves_move() {
        let names = names(20);
        let (before, after) = (ring(&names), ring(&names[..19]));
        for key in keys() {
            let first = before.walk(key).next().unwrap();
            let second = after.walk(key).next().unwrap();
            if first == 19 {
                let next = before.walk(key).find(|at| *at != 19);
                assert_eq!(next, Some(second), "to whom it went while that one was unhealthy");
            } else {
                assert_eq!(first, second);
            }
        }
    }

    #[test]
    fn a_walk_is_bounded_and_meets_others() {
        let names = names(1_000);
        let ring = ring(&names);
        for key in keys().take(100) {
            let met: Vec<_> = ring.walk(key).collect();
            assert_eq!(met.len(), WALK_MAX);
            assert!(met.iter().collect::<BTreeSet<_>>().len() > WALK_MAX / 2);
        }
        assert_eq!(
            Ring::new(std::iter::empty::<(&str, f32)>().collect::<Vec<_>>().into_iter())
                .walk(1)
                .count(),
            0
        );
    }
}
