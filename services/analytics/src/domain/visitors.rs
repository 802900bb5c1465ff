//! About how many different people clicked, in little space: a HyperLogLog sketch of visitor hashes.
//!
//! Sketches of one UTC day merge into the day's; those of different days never do, since every day has its own salt.

use datasketches::hll::HllSketch;
use datasketches::hll::HllType;
use datasketches::hll::HllUnion;

use super::packed::Damaged;

/// Base-2 logarithm of the number of registers: 4,096 of them, a relative standard error of 1.6 %.
const LG_K: u8 = 12;
/// First byte of the stored form.
const VERSION: u8 = 1;

/// The visitors of one rollup.
#[derive(Clone, Debug, Default)]
pub struct Visitors(Option<Box<HllSketch>>);

impl Visitors {
    /// Adds a visitor by its hash.
    pub fn see(&mut self, visitor: u64) {
        let sketch = self.0.get_or_insert_with(|| Box::new(empty()));
        sketch.update(visitor);
    }

    /// Nobody was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The stored form; nothing if nobody was seen.
    pub fn pack(&self) -> Option<Vec<u8>> {
        let sketch = self.0.as_ref()?;
        let body = sketch.serialize();
        let mut packed = Vec::with_capacity(body.len() + 1);
        packed.push(VERSION);
        packed.extend_from_slice(&body);
        Some(packed)
    }

    /// Reads the stored form.
    pub fn unpack(packed: &[u8]) -> Result<Visitors, Damaged> {
        read(packed).map(|sketch| Visitors(Some(Box::new(sketch))))
    }

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |sketch| sketch.estimated_size())
    }
}

fn empty() -> HllSketch {
    HllSketch::new(LG_K, HllType::Hll8).expect("12 is a size that the library takes")
}

fn read(packed: &[u8]) -> Result<HllSketch, Damaged> {
    let Some((&VERSION, body)) = packed.split_first() else {
        return Err(Damaged("visitors: unknown version"));
    };
    let sketch = HllSketch::deserialize(body).map_err(|_| Damaged("visitors: not a sketch"))?;
    if sketch.lg_config_k() != LG_K {
        return Err(Damaged("visitors: a sketch of another size"));
    }
    Ok(sketch)
}

/// The visitors of several rollups of one UTC day.
#[derive(Debug)]
pub struct DayVisitors(HllUnion);

impl Default for DayVisitors {
    fn default() -> Self {
        DayVisitors(HllUnion::new(LG_K).expect("12 is a size that the library takes"))
    }
}

impl DayVisitors {
    /// Adds one rollup's, in its stored form.
    pub fn merge(&mut self, packed: &[u8]) -> Result<(), Damaged> {
        self.0.update(&read(packed)?);
        Ok(())
    }

    /// About how many they are.
    pub fn estimate(&self) -> u64 {
        // Not the estimate that follows the order of arrival (HIP): what was merged in another order must count the same.
        let estimate = self.0.to_sketch(HllType::Hll8).composite_estimate().round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate is a finite number from 0 up, and a cast of a float saturates"
        )]
        let visitors = estimate as u64;
        visitors
    }
}

/// The visitors of a range of time: each UTC day's, added up. Days come in order.
#[derive(Debug, Default)]
pub struct Uniques {
    day: Option<(i64, DayVisitors)>,
    earlier: u64,
}

impl Uniques {
    /// Adds a rollup's visitors, in their stored form, on a UTC day that is not before those seen so far.
    pub fn see(&mut self, day: i64, packed: &[u8]) -> Result<(), Damaged> {
        match &mut self.day {
            Some((current, visitors)) if *current == day => visitors.merge(packed),
            current => {
                let mut visitors = DayVisitors::default();
                visitors.merge(packed)?;
                if let Some((_, over)) = current.replace((day, visitors)) {
                    self.earlier += over.estimate();
                }
                Ok(())
            }
        }
    }

    /// How many they are about.
    pub fn sum(self) -> u64 {
        self.earlier + self.day.map_or(0, |(_, visitors)| visitors.estimate())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn estimate(parts: &[&Visitors]) -> u64 {
        let mut day = DayVisitors::default();
        for part in parts {
            if let Some(packed) = part.pack() {
                day.merge(&packed).unwrap();
            }
        }
        day.estimate()
    }

    /// A stand-in for the edge's keyed hash: well mixed, reproducible.
    fn hash(number: u64) -> u64 {
        let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    #[test]
    fn the_standard_error_over_many_sketches_is_at_most_two_percent() {
        for visitors in [100u64, 2_000, 20_000] {
            let mut squares = 0.0;
            let sketches = 60;
            for seed in 0..sketches {
                // Two halves that overlap, merged as a query merges them.
                let (mut one, mut two) = (Visitors::default(), Visitors::default());
                for number in 0..visitors {
                    let hash = hash(seed * 1_000_000 + number);
                    if number % 3 != 0 {
                        one.see(hash);
                    }
                    if number % 3 != 1 {
                        two.see(hash);
                    }
                }
                let error = estimate(&[&one, &two]) as f64 / visitors as f64 - 1.0;
                squares += error * error;
            }
            let standard_error = (squares / sketches as f64).sqrt();
            assert!(standard_error <= 0.02, "{visitors} visitors: {standard_error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn merging_is_associative_and_order_does_not_matter(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 0..900), 3),
        ) {
            let parts: Vec<Visitors> = parts.into_iter().map(|hashes| {
                let mut visitors = Visitors::default();
                hashes.into_iter().for_each(|hash| visitors.see(hash));
                visitors
            }).collect();
            let [a, b, c] = parts.as_slice() else { unreachable!("three were asked for") };
            let forward = estimate(&[a, b, c]);
            prop_assert_eq!(forward, estimate(&[c, a, b]));
            prop_assert_eq!(forward, estimate(&[b, c, a, a]));
        }

        #[test]
        fn what_was_packed_is_read_back(hashes in proptest::collection::vec(any::<u64>(), 1..2000)) {
            let mut visitors = Visitors::default();
            hashes.into_iter().for_each(|hash| visitors.see(hash));
            let again = Visitors::unpack(&visitors.pack().unwrap()).unwrap();
            prop_assert_eq!(estimate(&[&visitors]), estimate(&[&again]));
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut day = DayVisitors::default();
            let _refused = day.merge(&bytes).is_err();
        }
    }

    #[test]
    fn a_visitor_of_two_days_is_counted_on_each() {
        let mut one = Visitors::default();
        (0..10).for_each(|number| one.see(hash(number)));
        let packed = one.pack().unwrap();
        let mut uniques = Uniques::default();
        for day in [1, 1, 2] {
            uniques.see(day, &packed).unwrap();
        }
        assert_eq!(uniques.sum(), 20);
        assert_eq!(Uniques::default().sum(), 0);
    }

    #[test]
    fn a_cut_sketch_is_damaged() {
        let mut visitors = Visitors::default();
        (0..5_000).for_each(|number| visitors.see(hash(number)));
        let packed = visitors.pack().unwrap();
        assert!(Visitors::unpack(&packed[..packed.len() / 2]).is_err());
        assert!(Visitors::unpack(&[]).is_err());
        assert!(Visitors::unpack(&[9, 1, 2]).is_err());
    }
}
