//! The join tokens of a registry in memory.

use super::JOIN_TOKENS_MAX;
use super::JoinTokenEntry;
use super::JoinTokenStore;
use anyhow::ensure;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

#[derive(Debug, Clone, Default)]
pub(super) struct MemoryJoinTokens(Arc<Mutex<BTreeMap<String, Kept>>>);

#[derive(Debug)]
struct Kept {
    version: i64,
    value: Vec<u8>,
    until: Instant,
}

impl MemoryJoinTokens {
    /// Those that have not run out.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, kept| now < kept.until);
        tokens
    }
}

impl JoinTokenStore for MemoryJoinTokens {
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<JoinTokenEntry>>> {
        let tokens = self.lock();
        let all = tokens.iter().map(|(id, kept)| entry(id, kept)).collect();
        Box::pin(ready(Ok(all)))
    }

    fn get(&self, id: &str) -> BoxFuture<'_, anyhow::Result<Option<JoinTokenEntry>>> {
        let tokens = self.lock();
        Box::pin(ready(Ok(tokens.get(id).map(|kept| entry(id, kept)))))
    }

    fn create(
        &self,
        id: &str,
        value: Vec<u8>,
        life: Duration,
    ) -> BoxFuture<'_, anyhow::Result<bool>> {
        let mut tokens = self.lock();
        let created = (|| {
            ensure!(tokens.len() < JOIN_TOKENS_MAX, "there are {JOIN_TOKENS_MAX} join tokens");
            if tokens.contains_key(id) {
                return Ok(false);
            }
            let kept = Kept { version: 1, value, until: Instant::now() + life };
            tokens.insert(id.to_owned(), kept);
            Ok(true)
        })();
        Box::pin(ready(created))
    }

    fn replace(&self, entry: JoinTokenEntry) -> BoxFuture<'_, anyhow::Result<bool>> {
        let mut tokens = self.lock();
        let present = tokens.get_mut(&entry.id).filter(|kept| kept.version == entry.version);
        let replaced = present.map(|kept| {
            kept.version += 1;
            kept.value = entry.value;
        });
        Box::pin(ready(Ok(replaced.is_some())))
    }

    fn delete(&self, id: &str) -> BoxFuture<'_, anyhow::Result<bool>> {
        Box::pin(ready(Ok(self.lock().remove(id).is_some())))
    }
}

fn entry(id: &str, kept: &Kept) -> JoinTokenEntry {
    JoinTokenEntry { id: id.to_owned(), version: kept.version, value: kept.value.clone() }
}
