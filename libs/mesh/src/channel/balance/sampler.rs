//! Random choice by weight in constant time, however many there are to choose among.

use rand::Rng;
use rand::RngExt as _;

/// How often another second choice is proposed if the one before was declined for its weight.
const PROPOSALS_MAX: usize = 2;

/// Chooses among `0..count`.
#[derive(Debug)]
pub(super) enum Sampler {
    /// All weights are the same.
    Uniform,
    /// Vose's alias method: a column at random, then itself or its alias.
    Alias { columns: Box<[Column]>, weights: Box<[f32]> },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// The probability of the column itself.
    keep: f32,
    alias: u32,
}

impl Sampler {
    /// A sampler for these weights, each above 0.
    pub(super) fn new(weights: &[f32]) -> Self {
        let alike = |pair: &[f32]| (pair[0] - pair[1]).abs() <= f32::EPSILON * pair[0];
        if weights.windows(2).all(alike) {
            return Self::Uniform;
        }
        Self::Alias { columns: columns(weights), weights: weights.into() }
    }

    /// Two different ones of `count`, or one if there is only one, or if the second would get more than its share: the first
    /// comes up by its weight, and each pair as often as the lighter of the two allows. So whoever wins the comparison of
    /// a pair, without load each gets its share (this is Metropolis and Hastings' rule).
    pub(super) fn two(
        &self,
        count: usize,
        random: &mut impl Rng,
    ) -> Option<(usize, Option<usize>)> {
        match count {
            0 => return None,
            1 => return Some((0, None)),
            _ => {}
        }
        let bits = random.next_u64();
        let other = |first: usize, bits: u32| {
            let at = scale(bits, count - 1);
            if at < first { at } else { at + 1 }
        };
        match self {
            Self::Uniform => {
                let first = scale(high(bits), count);
                Some((first, Some(other(first, low(bits)))))
            }
            Self::Alias { columns, weights } => {
                let at = scale(high(bits), count);
                let column = columns[at];
                let keep = random.random::<f32>() < column.keep;
                let first = if keep { at } else { column.alias as usize };
                let mut declined = None;
                for _ in 0..PROPOSALS_MAX.min(count - 1) {
                    let second = other(first, random.next_u32());
                    if declined == Some(second) {
                        continue;
                    }
                    if random.random::<f32>() * weights[first] < weights[second] {
                        return Some((first, Some(second)));
                    }
                    declined = Some(second);
                }
                Some((first, None))
            }
        }
    }
}

/// Fair columns for these weights.
#[expect(clippy::cast_precision_loss, reason = "thousands of endpoints at most")]
fn columns(weights: &[f32]) -> Box<[Column]> {
    let mean = weights.iter().sum::<f32>() / weights.len() as f32;
    let mut left: Vec<f32> = weights.iter().map(|weight| weight / mean).collect();
    let mut columns = vec![Column { keep: 1.0, alias: 0 }; weights.len()];
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|at| left[*at] < 1.0);
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        let alias = u32::try_from(rich).expect("thousands of endpoints at most");
        columns[poor] = Column { keep: left[poor], alias };
        left[rich] -= 1.0 - left[poor];
        if left[rich] < 1.0 { small.push(rich) } else { large.push(rich) }
    }
    // What is left over is 1 but for rounding, as every column is by default.
    columns.into()
}

/// `0..count`, each about as often (Lemire's multiplication).
pub(super) fn scale(bits: u32, count: usize) -> usize {
    let scaled = (u64::from(bits) * count as u64) >> 32;
    usize::try_from(scaled).expect("less than the count")
}

fn high(bits: u64) -> u32 {
    (bits >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn low(bits: u64) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    const DRAWS: usize = 200_000;

    /// Each one's share if the winner of a pair is `better`.
    fn shares(weights: &[f32], better: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let sampler = Sampler::new(weights);
        let mut random = StdRng::seed_from_u64(7);
        let mut wins = vec![0_u32; weights.len()];
        for _ in 0..DRAWS {
            let (first, second) = sampler.two(weights.len(), &mut random).unwrap();
            assert_ne!(Some(first), second);
            let winner = second.filter(|second| better(*second, first)).unwrap_or(first);
            wins[winner] += 1;
        }
        wins.iter().map(|wins| f64::from(*wins) / 200_000.0).collect()
    }

    #[test]
    fn without_load_each_gets_the_share_of_its_weight() {
        let cases: [&[f32]; 5] = [
            &[1.0, 1.0, 1.0],
            &[1.0, 0.1],
            &[1.0, 1.0, 1.0, 0.1],
            &[5.0, 3.0, 2.0],
            &[1.0, 2.0, 4.0, 8.0, 16.0],
        ];
        for weights in cases {
            let sum: f32 = weights.iter().sum();
            let shares = shares(weights, |_, _| false);
            for (share, weight) in shares.iter().zip(weights) {
                let expected = f64::from(weight / sum);
                assert!((share - expected).abs() < 0.01, "{share}, not {expected} of {weights:?}");
            }
        }
    }

    #[test]
    fn a_light_one_that_wins_every_comparison_gets_little_more_than_its_share() {
        let shares = shares(&[1.0, 1.0, 1.0, 0.1], |one, _| one == 3);
        assert!(shares[3] > 0.032 && shares[3] < 0.08, "{shares:?}");
    }

    #[test]
    fn of_equals_the_worst_is_never_chosen() {
        let shares = shares(&[1.0; 10], |_, other| other == 4);
        assert!(shares[4] < f64::EPSILON);
    }

    #[test]
    fn one_is_no_pair_and_none_is_nothing() {
        let mut random = StdRng::seed_from_u64(7);
        assert_eq!(Sampler::new(&[]).two(0, &mut random), None);
        assert_eq!(Sampler::new(&[3.0]).two(1, &mut random), Some((0, None)));
    }
}
