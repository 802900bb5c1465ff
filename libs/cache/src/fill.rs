//! What happens when a look-up finds nothing fresh: L2, then the source, then what is stale; and what L2 is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::entry;
use crate::entry::Entry;
use crate::entry::Filled;
use crate::entry::Stored;
use crate::l2::Write;
use crate::shard::Offer;
use crate::versioned::Answer;
use crate::versioned::Inner;

/// How long the source is left alone for a key, while a stale entry is served, after it failed to answer.
const RETRY_MICROS: i64 = 1_000_000;
/// Reads of the source for one look-up: the second only if the first was overtaken by a change.
const READS_MAX: u32 = 2;

impl<V: Stored, E: Clone + Send + Sync + 'static> Inner<V, E> {
    pub(crate) async fn fill<F>(
        &self,
        key: &[u8],
        now_micros: i64,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> Answer<V, E>
    where
        F: Future<Output = Result<Filled<V>, E>> + Send + 'static,
    {
        let stale = match self.fill_from_l2(key, now_micros).await {
            FromL2::Fresh(entry) => return Ok(entry),
            FromL2::Stale(filled) => Some(filled),
            FromL2::Nothing => None,
        };
        let mut reads = 0;
        loop {
            reads += 1;
            let forgotten = self.shard(key).forgotten();
            let filled = match read().await {
                Ok(filled) => filled,
                Err(error) => return self.fall_back(key, stale, now_micros).ok_or(error),
            };
            let (version, read_micros) = (filled.version, filled.read_micros);
            match self.keep(key, filled, forgotten, now_micros) {
                Offer::Kept(entry) => {
                    self.share(&[(key, &entry)], now_micros).await;
                    return Ok(entry);
                }
                Offer::Refused(entry) if reads == READS_MAX => {
                    // This read began after the higher version was seen: it is the present, but not worth remembering.
                    tracing::debug!(cache = self.options.name, version, read_micros, "not kept");
                    return Ok(entry);
                }
                Offer::Refused(_) => {}
            }
        }
    }

    async fn fill_from_l2(&self, key: &[u8], now_micros: i64) -> FromL2<V> {
        let Some(l2) = &self.l2 else { return FromL2::Nothing };
        let forgotten = {
            let shard = self.shard(key);
            if shard.doubts(now_micros) {
                return FromL2::Nothing;
            }
            shard.forgotten()
        };
        let bytes = l2.get(&self.l2_key(key)).await;
        let Some(filled) = bytes.and_then(|bytes| entry::decode::<V>(&bytes)) else {
            self.cells.l2.miss();
            return FromL2::Nothing;
        };
        let is_old = now_micros.saturating_sub(filled.read_micros) >= self.ttl_micros;
        if is_old || self.is_doubted(filled.read_micros) {
            self.cells.l2.miss();
            return FromL2::Stale(filled);
        }
        match self.keep(key, filled, forgotten, now_micros) {
            Offer::Kept(entry) => {
                self.cells.l2.hit();
                FromL2::Fresh(entry)
            }
            Offer::Refused(_) => {
                self.cells.l2.miss();
                FromL2::Nothing
            }
        }
    }

    /// What to serve when the source can't answer: what L1 holds, or what L2 held, unless it is too old.
    fn fall_back(
        &self,
        key: &[u8],
        from_l2: Option<Filled<V>>,
        now_micros: i64,
    ) -> Option<Arc<Entry<V>>> {
        if let Some(filled) = from_l2 {
            let forgotten = self.shard(key).forgotten();
            drop(self.keep(key, filled, forgotten, now_micros));
        }
        let entry = self.shard(key).get(key).cloned()?;
        if entry.age_micros(now_micros) >= self.stale_micros {
            return None;
        }
        entry.retry_micros.store(now_micros.saturating_add(RETRY_MICROS), Ordering::Relaxed);
        Some(entry)
    }

    /// Offers entries to L2, which keeps each for as long as it may be served.
    pub(crate) async fn share(&self, entries: &[(&[u8], &Arc<Entry<V>>)], now_micros: i64) {
        let Some(l2) = &self.l2 else { return };
        let writes: Vec<Write> = entries
            .iter()
            .filter_map(|(key, entry)| {
                let left = self.stale_micros.saturating_sub(entry.age_micros(now_micros));
                let keep =
                    Duration::from_micros(u64::try_from(left).ok().filter(|left| *left > 0)?);
                Some(Write { key: self.l2_key(key), bytes: entry::encode(entry), keep })
            })
            .collect();
        l2.set_if_newer(&writes).await;
    }

    fn l2_key(&self, key: &[u8]) -> Vec<u8> {
        [b"linkmesh:", self.options.name.as_bytes(), b":", key].concat()
    }
}

enum FromL2<V> {
    Fresh(Arc<Entry<V>>),
    Stale(Filled<V>),
    Nothing,
}
