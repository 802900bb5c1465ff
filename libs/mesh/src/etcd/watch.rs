//! List, then watch from the revision after it; after whatever goes wrong, list again.
//!
//! A watch is never resumed by revision alone: one that was compacted, or begins in the future because etcd lost its
//! data, would be silent for ever.

use super::Members;
use super::answer;
use super::value;
use crate::backoff::Backoff;
use crate::registry::Change;
use crate::registry::Entry;
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

/// Reports to `sender` until the other side is dropped.
pub(super) async fn follow(members: Members, sender: mpsc::Sender<Update>) {
    let mut backoff = Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1);
    let mut away = false;
    while !sender.is_closed() {
        let mut listed = false;
        let Err(error) = list_and_watch(&members, &sender, &mut listed).await else {
            return;
        };
        if listed {
            backoff.reset();
        }
        // The first failure after a success is news; that it is still so isn't.
        if listed || !away {
            tracing::warn!(error = format!("{error:#}"), "the watch on etcd broke; listing again");
        }
        away = !listed;
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Returns `Ok` when nobody listens any more.
async fn list_and_watch(
    members: &Members,
    sender: &mpsc::Sender<Update>,
    listed: &mut bool,
) -> anyhow::Result<()> {
    let mut client = members.connect().await?;
    let (mut revision, entries) = list(&mut client).await?;
    *listed = true;
    if sender.send(Update::Listed { revision, entries }).await.is_err() {
        return Ok(());
    }

    let options =
        WatchOptions::new().with_prefix().with_start_revision(revision + 1).with_progress_notify();
    let mut stream = answer(client.watch(value::PREFIX, Some(options))).await?;
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = stream.message() => {
                heard = Instant::now();
                let message = message?.context("etcd closed the watch")?;
                let update = update(&message, revision)?;
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
async fn list(client: &mut Client) -> anyhow::Result<(i64, Vec<Entry>)> {
    let end = prefix_end(value::PREFIX);
    let mut from = value::PREFIX.as_bytes().to_vec();
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
        entries.extend(page.kvs().iter().filter_map(|pair| entry(pair.key(), pair.value())));
        let Some(last) = page.kvs().last().filter(|_| page.more()) else {
            return Ok((revision, entries));
        };
        from = last.key().to_vec();
        from.push(0);
    }
    bail!("etcd lists more than {PAGES_MAX} pages");
}

/// The first key after those with the prefix.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("the prefix is not empty");
    *last += 1;
    end
}

fn update(message: &WatchResponse, revision_before: i64) -> anyhow::Result<Update> {
    ensure!(
        !message.canceled(),
        "etcd cancelled the watch (compacted up to {}): {}",
        message.compact_revision(),
        message.cancel_reason()
    );
    let revision = message.header().context("etcd sent no header")?.revision();
    ensure!(revision >= revision_before, "etcd went back from {revision_before} to {revision}");
    let changes: Vec<Change> = message
        .events()
        .iter()
        .filter_map(|event| {
            let pair = event.kv()?;
            match event.event_type() {
                EventType::Put => entry(pair.key(), pair.value()).map(Change::Put),
                EventType::Delete => {
                    let (grpc_service, instance) = value::parse_key(pair.key()).ok()?;
                    Some(Change::Delete { grpc_service, instance })
                }
            }
        })
        .collect();
    if changes.is_empty() {
        return Ok(Update::Alive { revision });
    }
    Ok(Update::Changed { revision, changes })
}

/// The entry under a key; none, and a line in the log, if someone wrote what can't be read.
fn entry(key: &[u8], value: &[u8]) -> Option<Entry> {
    match value::parse(key, value) {
        Ok(entry) => Some(entry),
        Err(error) => {
            let key = String::from_utf8_lossy(key);
            tracing::warn!(%key, error = format!("{error:#}"), "an endpoint in etcd is malformed");
            None
        }
    }
}
