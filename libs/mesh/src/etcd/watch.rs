//! List, then watch from the revision after it; after whatever goes wrong, list again.
//!
//! A watch is never resumed by revision alone: one that was compacted, or begins in the future because etcd lost its
//! data, would be silent for ever.

use super::Members;
use super::answer;
use crate::backoff::Backoff;
use crate::registry::Update;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use etcd_client::Client;
use etcd_client::EventType;
use etcd_client::GetOptions;
use etcd_client::WatchOptions;
use etcd_client::WatchResponse;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many keys one page of a list has.
const PAGE_KEYS_MAX: i64 = 1_000;
/// How many pages a list may have: a million entries.
const PAGES_MAX: usize = 1_000;
/// How often etcd is asked whether it is still there and how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long etcd may be silent, having been asked, before the watch is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The waits between two attempts.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What is kept under a prefix, and what its watchers are told.
pub(super) trait Kind: Send + 'static {
    /// What every key begins with, its last byte a slash.
    const PREFIX: &'static str;
    /// What stands under a key, for the log.
    const WHAT: &'static str;
    type Entry: Send;
    type Change: Send;

    /// # Errors
    /// If someone wrote what can't be read; it must not keep the others from being seen.
    fn entry(key: &[u8], value: &[u8]) -> anyhow::Result<Self::Entry>;
    fn put(entry: Self::Entry) -> Self::Change;
    /// # Errors
    /// If the key is not one of ours.
    fn delete(key: &[u8]) -> anyhow::Result<Self::Change>;
}

type UpdateOf<K> = Update<<K as Kind>::Entry, <K as Kind>::Change>;

/// Reports to `sender` until the other side is dropped.
pub(super) async fn follow<K: Kind>(members: Members, sender: mpsc::Sender<UpdateOf<K>>) {
    let mut backoff = Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1);
    let mut away = false;
    while !sender.is_closed() {
        let mut listed = false;
        let Err(error) = list_and_watch::<K>(&members, &sender, &mut listed).await else {
            return;
        };
        if listed {
            backoff.reset();
        }
        // The first failure after a success is news; that it is still so isn't.
        if listed || !away {
            let (what, error) = (K::WHAT, format!("{error:#}"));
            tracing::warn!(what, error, "the watch on etcd broke; listing again");
        }
        away = !listed;
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Returns `Ok` when nobody listens any more.
async fn list_and_watch<K: Kind>(
    members: &Members,
    sender: &mpsc::Sender<UpdateOf<K>>,
    listed: &mut bool,
) -> anyhow::Result<()> {
    let mut client = members.connect().await?;
    let (mut revision, entries) = list::<K>(&mut client).await?;
    *listed = true;
    if sender.send(Update::Listed { revision, entries }).await.is_err() {
        return Ok(());
    }

    let options =
        WatchOptions::new().with_prefix().with_start_revision(revision + 1).with_progress_notify();
    let mut stream = answer(client.watch(K::PREFIX, Some(options))).await?;
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = stream.message() => {
                heard = Instant::now();
                let message = message?.context("etcd closed the watch")?;
                let update = update::<K>(&message, revision)?;
                revision = match &update {
                    Update::Listed { revision, .. }
                    | Update::Changed { revision, .. }
                    | Update::Alive { revision } => *revision,
                };
                if sender.send(update).await.is_err() {
                    return Ok(());
                }
            }
            _ = progress.tick() => {
                ensure!(heard.elapsed() < SILENCE_MAX, "etcd is silent");
                answer(stream.request_progress()).await?;
            }
        }
    }
}

/// All entries at one revision, page by page.
pub(super) async fn list<K: Kind>(client: &mut Client) -> anyhow::Result<(i64, Vec<K::Entry>)> {
    let end = prefix_end(K::PREFIX);
    let mut from = K::PREFIX.as_bytes().to_vec();
    let mut revision = 0;
    let mut entries = Vec::new();
    for _ in 0..PAGES_MAX {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(PAGE_KEYS_MAX)
            .with_revision(revision);
        let page = answer(client.get(from, Some(options))).await?;
        if revision == 0 {
            revision = page.header().context("etcd sent no header")?.revision();
        }
        entries.extend(page.kvs().iter().filter_map(|pair| entry::<K>(pair.key(), pair.value())));
        let Some(last) = page.kvs().last().filter(|_| page.more()) else {
            return Ok((revision, entries));
        };
        from = last.key().to_vec();
        from.push(0);
    }
    bail!("etcd lists more than {PAGES_MAX} pages");
}

/// The first key after those with the prefix.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("the prefix is not empty");
    *last += 1;
    end
}

fn update<K: Kind>(message: &WatchResponse, revision_before: i64) -> anyhow::Result<UpdateOf<K>> {
    ensure!(
        !message.canceled(),
        "etcd cancelled the watch (compacted up to {}): {}",
        message.compact_revision(),
        message.cancel_reason()
    );
    let revision = message.header().context("etcd sent no header")?.revision();
    ensure!(revision >= revision_before, "etcd went back from {revision_before} to {revision}");
    let changes: Vec<K::Change> = message
        .events()
        .iter()
        .filter_map(|event| {
            let pair = event.kv()?;
            match event.event_type() {
                EventType::Put => entry::<K>(pair.key(), pair.value()).map(K::put),
                EventType::Delete => K::delete(pair.key()).ok(),
            }
        })
        .collect();
    if changes.is_empty() {
        return Ok(Update::Alive { revision });
    }
    Ok(Update::Changed { revision, changes })
}

/// The entry under a key; none, and a line in the log, if someone wrote what can't be read.
fn entry<K: Kind>(key: &[u8], value: &[u8]) -> Option<K::Entry> {
    match K::entry(key, value) {
        Ok(entry) => Some(entry),
        Err(error) => {
            let (what, key) = (K::WHAT, String::from_utf8_lossy(key));
            tracing::warn!(what, %key, error = format!("{error:#}"), "a key in etcd is malformed");
            None
        }
    }
}
