//! One after the other, by weight, without a lock: gRPC's static stride scheduler (A58).
//!
//! All who choose share one counter. Each round of it passes every endpoint once; one with half the largest weight is skipped in
//! every second round, evenly.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A weight that is chosen in every round.
const WEIGHT_FULL: u32 = u16::MAX as u32;
/// The smallest weight relative to the mean that is kept to, and the largest (A58's): they bound how many are skipped in a row.
const RATIO_MIN: f32 = 0.01;
const RATIO_MAX: f32 = 10.0;

#[derive(Debug)]
pub(super) struct Schedule(Box<[u32]>);

impl Schedule {
    /// A schedule for these weights, each above 0.
    #[expect(clippy::cast_precision_loss, reason = "thousands of endpoints at most")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 65,535")]
    pub(super) fn new(weights: &[f32]) -> Self {
        let mean = weights.iter().sum::<f32>() / weights.len().max(1) as f32;
        let bounded = |weight: f32| (weight / mean).clamp(RATIO_MIN, RATIO_MAX);
        let largest = weights.iter().map(|weight| bounded(*weight)).fold(0.0, f32::max);
        let scaled = |weight: f32| (bounded(weight) / largest * WEIGHT_FULL as f32) as u32;
        Self(weights.iter().map(|weight| scaled(*weight).max(1)).collect())
    }

    /// Whose turn it is; none if there is nobody.
    pub(super) fn next(&self, sequence: &AtomicU32) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        loop {
            let turn = sequence.fetch_add(1, Ordering::Relaxed) as usize;
            let (at, round) = (turn % self.0.len(), turn / self.0.len());
            let weight = u64::from(self.0[at]);
            // Of any `WEIGHT_FULL` rounds it is chosen in `weight`. The offset keeps those with the same weight from being skipped
            // in the same round.
            let offset = at as u64 * u64::from(WEIGHT_FULL / 2);
            let position = (weight * round as u64 + offset) % u64::from(WEIGHT_FULL);
            if position >= u64::from(WEIGHT_FULL) - weight {
                return Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[f32], count: usize) -> Vec<usize> {
        let (schedule, sequence) = (Schedule::new(weights), AtomicU32::new(0));
        (0..count).map(|_| schedule.next(&sequence).unwrap()).collect()
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(turns(&[1.0, 1.0, 1.0], 7), [0, 1, 2, 0, 1, 2, 0]);
        assert!(Schedule::new(&[]).next(&AtomicU32::new(0)).is_none());
    }

    #[test]
    fn shares_follow_the_weights_evenly() {
        let weights = [1.0, 2.0, 4.0];
        let turns = turns(&weights, 7_000);
        for (at, expected) in [1_000, 2_000, 4_000].into_iter().enumerate() {
            let found = turns.iter().filter(|turn| **turn == at).count();
            assert!(found.abs_diff(expected) <= 5, "{at}: {found}");
        }
        // Evenly: in any fourteen turns the lightest has two, give or take one.
        for window in turns.windows(14) {
            let found = window.iter().filter(|turn| **turn == 0).count();
            assert!((1..=3).contains(&found), "{window:?}");
        }
    }

    #[test]
    fn a_heavy_one_among_many_is_bounded() {
        let mut weights = vec![1.0; 999];
        weights.push(10_000.0);
        assert_eq!(turns(&weights, 100).len(), 100);
    }
}
