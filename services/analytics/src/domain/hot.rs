//! The rollups that one partition is writing to, in memory between folds.
//!
//! They equal what is stored as long as their owner's epoch holds and every fold was committed; after any doubt they are
//! dropped ([`Hot::drop_all`]) and read again.

use std::collections::HashMap;
use std::collections::HashSet;

use super::click::Click;
use super::click::DIMENSIONS;
use super::packed::Damaged;
use super::rollup::ClickValues;
use super::rollup::Key;
use super::rollup::PackedRollup;
use super::rollup::Rollup;
use super::values::Values;

type Keys = HashSet<Key, rapidhash::fast::RandomState>;

/// The rollups of one partition that are in memory.
#[derive(Debug)]
pub struct Hot {
    rollups: HashMap<Key, Rollup, rapidhash::fast::RandomState>,
    values: Values,
    bytes_max: usize,
}

impl Hot {
    /// Holds rollups in about `bytes_max` bytes between folds; within one, what the fold needs.
    pub fn new(bytes_max: usize) -> Hot {
        Hot { rollups: HashMap::default(), values: Values::default(), bytes_max }
    }

    /// Those of the keys that clicks will touch and that are not here, in order.
    pub fn missing<'a>(&self, clicks: impl Iterator<Item = &'a Click>) -> Vec<Key> {
        let mut missing = Keys::default();
        let keys = clicks.flat_map(Key::of);
        missing.extend(keys.filter(|key| !self.rollups.contains_key(key)));
        in_order(missing)
    }

    /// Takes in what was missing: `stored` as it was read, and nothing for the others.
    pub fn load(
        &mut self,
        missing: Vec<Key>,
        stored: Vec<(Key, PackedRollup)>,
    ) -> Result<(), Damaged> {
        for key in missing {
            self.rollups.insert(key, Rollup::default());
        }
        for (key, packed) in stored {
            let rollup = Rollup::unpack(&packed, &mut self.values)?;
            self.rollups.insert(key, rollup);
        }
        Ok(())
    }

    /// Counts clicks, whose rollups must all be here, and gives the changed ones in the order of their keys.
    pub fn count<'a>(
        &mut self,
        clicks: impl Iterator<Item = &'a Click>,
    ) -> Vec<(Key, PackedRollup)> {
        let mut touched = Keys::default();
        for click in clicks {
            let mut values = ClickValues::default();
            for dimension in DIMENSIONS {
                let text = click.value(dimension);
                values[dimension.index()] = text.map(|text| self.values.id(text));
            }
            for key in Key::of(click) {
                let rollup = self.rollups.get_mut(&key).expect("missing ones were loaded");
                rollup.count(click, &values);
                touched.insert(key);
            }
        }
        let touched = in_order(touched).into_iter();
        touched.map(|key| (key, self.rollups[&key].pack(&self.values))).collect()
    }

    /// After a committed fold that touched `keys`: forgets what would take too much memory.
    pub fn settle(&mut self, touched: &[Key]) {
        if self.bytes() <= self.bytes_max {
            return;
        }
        let touched: Keys = touched.iter().copied().collect();
        self.rollups.retain(|key, _| touched.contains(key));
        if self.bytes() > self.bytes_max {
            self.drop_all();
        }
    }

    /// Forgets everything.
    pub fn drop_all(&mut self) {
        self.rollups.clear();
        self.rollups.shrink_to_fit();
        self.values = Values::default();
    }

    fn bytes(&self) -> usize {
        self.values.bytes() + self.rollups.values().map(Rollup::bytes).sum::<usize>()
    }
}

/// Rows are locked in this order, so that two writers never wait for each other in a circle.
fn in_order(keys: Keys) -> Vec<Key> {
    let mut keys: Vec<Key> = keys.into_iter().collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests;
