//! One shard of L1: a bounded map with second-chance eviction, and the versions that were seen.
//!
//! The versions outlive the entries: an evicted entry's version is remembered for as long as an older state may still be on
//! its way here, from a fill or from L2.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rapidhash::fast::RandomState;

use crate::entry::Entry;

/// How long a version is remembered without its entry. Longer than any time to live plus any fill.
pub(crate) const SEEN_MICROS: i64 = 60_000_000;
/// Versions that a shard remembers without their entries; past it the oldest is given up, see [`Shard::doubts`].
const SEEN_MAX: usize = 8_192;
/// Entries that an eviction looks at for one that was not used since the last look.
const EVICTION_LOOKS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Shard<V> {
    entries: HashMap<Arc<[u8]>, Slot<V>, RandomState>,
    /// Keys in the order in which eviction looks at them.
    clock: VecDeque<Arc<[u8]>>,
    entries_max: usize,
    seen: HashMap<Arc<[u8]>, Seen, RandomState>,
    seen_order: VecDeque<(i64, Arc<[u8]>)>,
    /// Versions given up before their time, so far, and until when that matters.
    forgotten: u64,
    doubt_until_micros: i64,
}

#[derive(Debug)]
struct Slot<V> {
    entry: Arc<Entry<V>>,
    /// How many leading bytes of the key its versions are counted under.
    scope_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    version: i64,
    at_micros: i64,
}

/// What became of an answer that was offered.
#[derive(Debug)]
pub(crate) enum Offer<V> {
    /// It is kept, or a newer read of the same version was there already.
    Kept(Arc<Entry<V>>),
    /// A higher version was seen; it is handed back.
    Refused(Arc<Entry<V>>),
}

impl<V> Shard<V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            entries: HashMap::default(),
            clock: VecDeque::new(),
            entries_max: entries_max.max(1),
            seen: HashMap::default(),
            seen_order: VecDeque::new(),
            forgotten: 0,
            doubt_until_micros: 0,
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<Entry<V>>> {
        self.entries.get(key).map(|slot| &slot.entry)
    }

    /// How many versions were given up before their time; a fill compares it with what it was when the fill began.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether a version given up may still be undercut by what L2 holds.
    pub(crate) fn doubts(&self, now_micros: i64) -> bool {
        now_micros < self.doubt_until_micros
    }

    /// Whether a version lower than one that was seen under `scope` is this one.
    pub(crate) fn outdates(&self, key: &[u8], scope: &[u8], version: i64) -> bool {
        self.seen.get(scope).is_some_and(|seen| version < seen.version)
            || self.get(key).is_some_and(|entry| version < entry.version)
    }

    /// Keeps an entry unless a higher version was seen, or versions were given up since `forgotten` was read.
    pub(crate) fn offer(
        &mut self,
        key: &[u8],
        scope_bytes: usize,
        entry: Entry<V>,
        forgotten: u64,
        now_micros: i64,
    ) -> Offer<V> {
        let scope = &key[..scope_bytes];
        if self.outdates(key, scope, entry.version)
            || (forgotten != self.forgotten && !self.seen.contains_key(scope))
        {
            return Offer::Refused(Arc::new(entry));
        }
        let entry = Arc::new(entry);
        if let Some(slot) = self.entries.get_mut(key) {
            let is_older_read = slot.entry.version == entry.version
                && slot.entry.read_micros >= entry.read_micros
                && !slot.entry.has_failed();
            if !is_older_read {
                slot.entry = Arc::clone(&entry);
            }
            return Offer::Kept(Arc::clone(&slot.entry));
        }
        if self.entries.len() >= self.entries_max {
            self.evict(now_micros);
        }
        let key: Arc<[u8]> = key.into();
        self.clock.push_back(Arc::clone(&key));
        self.entries.insert(key, Slot { entry: Arc::clone(&entry), scope_bytes });
        Offer::Kept(entry)
    }

    /// Takes notice of a change: entries under `scope` with a lower version go, and none comes back.
    pub(crate) fn outdate(&mut self, scope: &[u8], version: i64, now_micros: i64) {
        let is_whole_key =
            self.entries.get(scope).is_some_and(|slot| slot.scope_bytes == scope.len());
        if is_whole_key {
            self.entries.retain_one(scope, |slot| slot.entry.version >= version);
        } else {
            self.entries.retain(|key, slot| {
                &key[..slot.scope_bytes] != scope || slot.entry.version >= version
            });
        }
        self.remember(scope.into(), version, now_micros);
    }

    /// Takes notice of a change whose key is the whole scope and whose new value is known: an entry that is here becomes it.
    pub(crate) fn replace(&mut self, key: &[u8], entry: &Arc<Entry<V>>, now_micros: i64) {
        let version = entry.version;
        if let Some(slot) = self.entries.get_mut(key)
            && slot.entry.version < version
        {
            slot.entry = Arc::clone(entry);
        }
        self.remember(key.into(), version, now_micros);
    }

    fn evict(&mut self, now_micros: i64) {
        for look in 0..=self.clock.len() {
            let Some(key) = self.clock.pop_front() else { return };
            let Some(slot) = self.entries.get(&key) else { continue };
            if look < EVICTION_LOOKS_MAX && slot.entry.used.swap(false, Ordering::Relaxed) {
                self.clock.push_back(key);
                continue;
            }
            let (version, scope_bytes) = (slot.entry.version, slot.scope_bytes);
            self.entries.remove(&key);
            if version > 0 {
                let scope = if scope_bytes == key.len() { key } else { key[..scope_bytes].into() };
                self.remember(scope, version, now_micros);
            }
            return;
        }
    }

    fn remember(&mut self, scope: Arc<[u8]>, version: i64, now_micros: i64) {
        self.forget(now_micros);
        let seen =
            self.seen.entry(Arc::clone(&scope)).or_insert(Seen { version, at_micros: now_micros });
        *seen = Seen { version: seen.version.max(version), at_micros: now_micros };
        self.seen_order.push_back((now_micros, scope));
    }

    fn forget(&mut self, now_micros: i64) {
        while let Some((at_micros, _)) = self.seen_order.front() {
            let is_due = now_micros.saturating_sub(*at_micros) > SEEN_MICROS;
            if !is_due && self.seen_order.len() < SEEN_MAX {
                return;
            }
            let Some((at_micros, scope)) = self.seen_order.pop_front() else { return };
            // A later sighting of the same scope has its own place in the order.
            if self.seen.get(&scope).is_some_and(|seen| seen.at_micros == at_micros) {
                self.seen.remove(&scope);
                if !is_due {
                    self.forgotten += 1;
                    self.doubt_until_micros = now_micros.saturating_add(SEEN_MICROS);
                }
            }
        }
    }
}

/// `HashMap::retain` for one key.
trait RetainOne<V> {
    fn retain_one(&mut self, key: &[u8], keep: impl FnOnce(&V) -> bool);
}

impl<V> RetainOne<V> for HashMap<Arc<[u8]>, V, RandomState> {
    fn retain_one(&mut self, key: &[u8], keep: impl FnOnce(&V) -> bool) {
        if self.get(key).is_some_and(|value| !keep(value)) {
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filled;

    fn entry(version: i64) -> Entry<u8> {
        Entry::new(Filled { version, read_micros: 0, value: Some(1) })
    }

    fn is_kept(offer: &Offer<u8>) -> bool {
        matches!(offer, Offer::Kept(_))
    }

    #[test]
    fn a_lower_version_is_refused_while_the_entry_is_here_and_after_it_was_evicted() {
        let mut shard = Shard::new(1);
        assert!(is_kept(&shard.offer(b"a", 1, entry(5), 0, 0)));
        assert!(!is_kept(&shard.offer(b"a", 1, entry(4), 0, 0)));
        assert!(is_kept(&shard.offer(b"b", 1, entry(1), 0, 10)));
        assert!(shard.get(b"a").is_none(), "it was evicted");
        assert!(!is_kept(&shard.offer(b"a", 1, entry(4), 0, SEEN_MICROS)));
        assert!(is_kept(&shard.offer(b"a", 1, entry(5), 0, SEEN_MICROS)));
    }

    #[test]
    fn a_version_is_forgotten_after_its_time_and_not_before() {
        let mut shard = Shard::<u8>::new(4);
        shard.outdate(b"a", 9, 0);
        shard.outdate(b"x", 1, SEEN_MICROS);
        assert!(shard.outdates(b"a", b"a", 8));
        shard.outdate(b"x", 2, SEEN_MICROS + 1);
        assert!(!shard.outdates(b"a", b"a", 8));
        assert_eq!(shard.forgotten(), 0);
    }

    #[test]
    fn a_version_seen_again_is_remembered_from_then_on() {
        let mut shard = Shard::<u8>::new(4);
        shard.outdate(b"a", 9, 0);
        shard.outdate(b"a", 9, SEEN_MICROS);
        shard.outdate(b"x", 1, SEEN_MICROS + 1);
        assert!(shard.outdates(b"a", b"a", 8));
    }

    #[test]
    fn giving_up_a_version_too_early_refuses_the_fills_that_were_under_way() {
        let mut shard = Shard::<u8>::new(4);
        for number in 0..=SEEN_MAX {
            shard.outdate(&number.to_be_bytes(), 5, 1);
        }
        assert!(shard.forgotten() > 0 && shard.doubts(2));
        assert!(!is_kept(&shard.offer(&0_usize.to_be_bytes(), 8, entry(4), 0, 2)));
        let forgotten = shard.forgotten();
        assert!(is_kept(&shard.offer(&0_usize.to_be_bytes(), 8, entry(6), forgotten, 2)));
    }

    #[test]
    fn a_scope_outdates_every_key_below_it() {
        let mut shard = Shard::new(8);
        assert!(is_kept(&shard.offer(b"p-1", 1, entry(1), 0, 0)));
        assert!(is_kept(&shard.offer(b"p-2", 1, entry(3), 0, 0)));
        assert!(is_kept(&shard.offer(b"q-1", 1, entry(1), 0, 0)));
        shard.outdate(b"p", 2, 0);
        assert!(shard.get(b"p-1").is_none());
        assert!(shard.get(b"p-2").is_some() && shard.get(b"q-1").is_some());
        assert!(!is_kept(&shard.offer(b"p-9", 1, entry(1), 0, 0)));
    }

    #[test]
    fn what_was_used_is_evicted_after_what_was_not() {
        let mut shard = Shard::new(2);
        assert!(is_kept(&shard.offer(b"a", 1, entry(1), 0, 0)));
        assert!(is_kept(&shard.offer(b"b", 1, entry(1), 0, 0)));
        shard.get(b"a").unwrap().used.store(true, Ordering::Relaxed);
        assert!(is_kept(&shard.offer(b"c", 1, entry(1), 0, 0)));
        assert!(shard.get(b"a").is_some() && shard.get(b"b").is_none());
    }
}
