//! Follows what changes: links, which it takes over, API keys and users' memberships, which it forgets, and sessions, which it
//! refuses once they have ended.
//!
//! The end of a topic is noted as soon as it can be, and what was read before that moment is read again: a change that was
//! missed is never served beyond. While the bus is away, entries run out after their 30 s.

use std::future::Future;
use std::time::Duration;

use bus::Bus;
use bus::ReadError;
use bus::Reader;
use bus::Start;
use bus::Stored;
use bus::TopicSpec;
use jiff::Timestamp;
use proto::events::v1::ApiKeyChanged;
use proto::events::v1::LinkChanged;
use proto::events::v1::SessionEnded;
use proto::events::v1::UserGrantsChanged;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::grants::Grants;
use crate::keys::Keys;
use crate::routes::Routes;
use crate::tokens::Tokens;

/// Changes that are taken at once.
const BATCH_MAX: usize = 512;
/// How long a read waits for changes before it looks whether to stop.
const READ_WAIT: Duration = Duration::from_secs(1);
/// How long until the bus is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

/// Follows `link-changes` until `stop`.
pub(crate) async fn links(routes: Routes, bus: Bus, stop: CancellationToken) -> anyhow::Result<()> {
    let doubt = routes.clone();
    let doubt = move || doubt.doubt(Timestamp::now().as_microsecond());
    follow(bus, bus::topics::LINK_CHANGES, Start::End, stop, doubt, move |records| {
        let routes = routes.clone();
        let changes = records.iter().filter_map(decode::<LinkChanged>).collect();
        async move { routes.apply(changes, Timestamp::now().as_microsecond()).await }
    })
    .await
}

/// Follows `key-changes` until `stop`.
pub(crate) async fn keys(keys: Keys, bus: Bus, stop: CancellationToken) -> anyhow::Result<()> {
    let doubt = keys.clone();
    let doubt = move || doubt.doubt(Timestamp::now().as_microsecond());
    follow(bus, bus::topics::KEY_CHANGES, Start::End, stop, doubt, move |records| {
        let now_micros = Timestamp::now().as_microsecond();
        for change in records.iter().filter_map(decode::<ApiKeyChanged>) {
            keys.outdate(&change.prefix, change.version, now_micros);
        }
        std::future::ready(())
    })
    .await
}

/// Follows `session-ends` until `stop`, from its beginning: it goes back further than any token lives, so that an edge that was
/// away, or is new, knows of every session that matters.
pub(crate) async fn sessions(
    tokens: Tokens,
    bus: Bus,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    follow(
        bus,
        bus::topics::SESSION_ENDS,
        Start::Beginning,
        stop,
        || (),
        move |records| {
            let now_micros = Timestamp::now().as_microsecond();
            for ended in records.iter().filter_map(decode::<SessionEnded>) {
                tokens.end(&ended, now_micros);
            }
            std::future::ready(())
        },
    )
    .await
}

/// Follows `user-changes` until `stop`.
pub(crate) async fn users(grants: Grants, bus: Bus, stop: CancellationToken) -> anyhow::Result<()> {
    let doubt = grants.clone();
    let doubt = move || doubt.doubt(Timestamp::now().as_microsecond());
    follow(bus, bus::topics::USER_CHANGES, Start::End, stop, doubt, move |records| {
        let now_micros = Timestamp::now().as_microsecond();
        for change in records.iter().filter_map(decode::<UserGrantsChanged>) {
            grants.outdate(&change.user_id, change.version, now_micros);
        }
        std::future::ready(())
    })
    .await
}

fn decode<M: prost::Message + Default>(record: &Stored) -> Option<M> {
    match M::decode(record.value.clone()) {
        Ok(change) => Some(change),
        Err(error) => {
            // Nobody can say what changed; the entry in question runs out after its 30 s.
            tracing::error!(offset = record.offset, error = %error, "a change can't be read");
            None
        }
    }
}

async fn follow<F, W>(
    bus: Bus,
    topic: TopicSpec,
    start: Start,
    stop: CancellationToken,
    doubt: impl Fn() + Clone + Send + Sync + 'static,
    apply: F,
) -> anyhow::Result<()>
where
    F: Fn(Vec<Stored>) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ()> + Send,
{
    let Some(partitions) = stop.run_until_cancelled(partitions(&bus, &topic)).await else {
        return Ok(());
    };
    let mut readers = JoinSet::new();
    for partition in 0..partitions {
        let (bus, stop) = (bus.clone(), stop.clone());
        let (doubt, apply) = (doubt.clone(), apply.clone());
        readers.spawn(async move {
            let following = follow_partition(&bus, (topic.name, partition), start, &doubt, &apply);
            stop.run_until_cancelled(following).await;
        });
    }
    while let Some(joined) = readers.join_next().await {
        joined?;
    }
    Ok(())
}

async fn partitions(bus: &Bus, topic: &TopicSpec) -> u32 {
    loop {
        let asked = async {
            bus.ensure_topic(topic).await?;
            bus.partitions(topic.name).await
        };
        match asked.await {
            Ok(partitions) => return partitions,
            Err(error) => tracing::warn!(topic = topic.name, error = %error, "no topic to follow"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow_partition<F, W>(
    bus: &Bus,
    (topic, partition): (&'static str, u32),
    start: Start,
    doubt: &(impl Fn() + Sync),
    apply: &F,
) where
    F: Fn(Vec<Stored>) -> W + Sync,
    W: Future<Output = ()> + Send,
{
    loop {
        let mut reader = reader_at(bus, topic, partition, start).await;
        doubt();
        loop {
            match reader.next(BATCH_MAX, READ_WAIT).await {
                Ok(records) if records.is_empty() => {}
                Ok(records) => apply(records).await,
                // For this reader it stays so: the next one begins anew, and doubts what was remembered.
                Err(error @ (ReadError::OutOfRange { .. } | ReadError::Damaged(_))) => {
                    tracing::error!(topic, partition, error = %error, "changes were missed");
                    tokio::time::sleep(RETRY).await;
                    break;
                }
                Err(error @ ReadError::Unavailable(_)) => {
                    tracing::warn!(topic, partition, error = %error, "changes can't be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn reader_at(bus: &Bus, topic: &'static str, partition: u32, start: Start) -> Reader {
    loop {
        match bus.reader(topic, partition, start).await {
            Ok(reader) => return reader,
            Err(error) => {
                tracing::warn!(topic, partition, error = %error, "changes can't be followed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
