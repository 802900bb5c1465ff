//! What an object has had so far: its fields, the members of its oneofs, or the keys of a map.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::ops::Range;

/// The fields of one object, by index.
#[derive(Default)]
pub(super) struct Seen {
    low: u128,
    /// Those from 128 on.
    high: Vec<usize>,
    /// Oneofs with the member that is set.
    oneofs: Vec<(usize, usize)>,
}

impl Seen {
    /// Whether a field comes for the first time.
    pub(super) fn insert(&mut self, index: usize) -> bool {
        if index < 128 {
            let bit = 1 << index;
            let is_new = self.low & bit == 0;
            self.low |= bit;
            return is_new;
        }
        let is_new = !self.high.contains(&index);
        if is_new {
            self.high.push(index);
        }
        is_new
    }

    /// Sets a member of a oneof: the one that was set before, if any.
    pub(super) fn claim(&mut self, oneof: usize, index: usize) -> Option<usize> {
        let rival = self.oneofs.iter().find(|(claimed, _)| *claimed == oneof);
        let rival = rival.map(|(_, member)| *member);
        if rival.is_none() {
            self.oneofs.push((oneof, index));
        }
        rival
    }
}

/// So many keys are compared one by one.
const COMPARED_MAX: usize = 16;

/// The keys of one map, as they were written.
#[derive(Default)]
pub(super) struct Keys {
    ranges: Vec<Range<usize>>,
    /// Of all of them, once there are more than [`COMPARED_MAX`]. Seeded at random: a client can't choose keys that collide.
    hashes: HashSet<u64>,
    state: Option<RandomState>,
}

impl Keys {
    /// Whether a key comes for the first time: the first `key_length` bytes of the entry whose length stands at `mark`.
    pub(super) fn insert(&mut self, out: &[u8], mark: usize, key_length: usize) -> bool {
        let length_bytes = out[mark..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let start = mark + length_bytes;
        let range = start..start + key_length;
        let key = &out[range.clone()];
        let is_equal = |other: &Range<usize>| out[other.clone()] == *key;
        let is_new = if self.ranges.len() < COMPARED_MAX {
            !self.ranges.iter().any(is_equal)
        } else {
            let state = self.state.get_or_insert_with(RandomState::new);
            if self.hashes.is_empty() {
                let keys = self.ranges.iter().map(|range| &out[range.clone()]);
                self.hashes.extend(keys.map(|key| state.hash_one(key)));
            }
            self.hashes.insert(state.hash_one(key)) || !self.ranges.iter().any(is_equal)
        };
        self.ranges.push(range);
        is_new
    }
}
