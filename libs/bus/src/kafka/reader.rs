//! Reads partitions. The readers of a topic share consumers: one set of connections and threads for all of them, a queue
//! for each.
//!
//! A consumer never gets the same partition twice, so no record fetched for an earlier reader can reach a later one.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::message::Headers as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::error::ReadError;
use crate::kafka::Context;
use crate::kafka::Kafka;
use crate::kafka::blocking;
use crate::kafka::classified;
use crate::kafka::partition_id;
use crate::record::Stored;

type Consumer = BaseConsumer<Context>;

/// A queue is looked at so often even if nothing was said of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many readers may wait to be closed; closing is then done by whoever drops them.
const CLOSING_MAX: usize = 1024;

/// The consumers there are.
pub(crate) struct Consumers {
    config: ClientConfig,
    shared: Arc<Mutex<ByTopic>>,
    /// Closing a consumer waits for its threads, which no async caller should: the closer does.
    closing: Option<mpsc::SyncSender<Closing>>,
    closer: Option<JoinHandle<()>>,
}

type ByTopic = HashMap<String, Vec<Shared>>;

/// A consumer and the partitions that it was ever given.
struct Shared {
    consumer: Arc<Consumer>,
    given: HashSet<i32>,
    readers: usize,
}

/// What is left of a reader.
struct Closing {
    topic: String,
    partition: i32,
    queue: PartitionQueue<Context>,
    consumer: Arc<Consumer>,
}

impl std::fmt::Debug for Consumers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumers").finish_non_exhaustive()
    }
}

impl Consumers {
    pub(crate) fn open(config: anyhow::Result<ClientConfig>) -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(ByTopic::new()));
        let (closing, closings) = mpsc::sync_channel::<Closing>(CLOSING_MAX);
        let of_closer = Arc::clone(&shared);
        let closer = std::thread::Builder::new()
            .name("bus-closer".to_owned())
            .spawn(move || {
                for closing in closings {
                    close(&of_closer, closing);
                }
            })
            .context("the thread that closes consumers can't be started")?;
        Ok(Self { config: config?, shared, closing: Some(closing), closer: Some(closer) })
    }

    /// A consumer that never had the partition, with a place kept in it.
    fn take(&self, topic: &str, partition: i32) -> Result<Arc<Consumer>, KafkaError> {
        let mut by_topic = lock(&self.shared);
        let of_topic = by_topic.entry(topic.to_owned()).or_default();
        if let Some(shared) = of_topic.iter_mut().find(|shared| !shared.given.contains(&partition))
        {
            shared.given.insert(partition);
            shared.readers += 1;
            return Ok(Arc::clone(&shared.consumer));
        }
        let consumer =
            Arc::new(self.config.create_with_context::<_, Consumer>(Context::default())?);
        let given = HashSet::from([partition]);
        of_topic.push(Shared { consumer: Arc::clone(&consumer), given, readers: 1 });
        Ok(consumer)
    }

    /// Blocks for as long as the client's own threads take.
    fn assign(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        ready: Arc<Notify>,
    ) -> Result<Closing, KafkaError> {
        let consumer = self.take(topic, partition)?;
        let assigned = (|| {
            // Split before it is assigned: nothing then ever reaches the consumer's common queue.
            let mut queue = consumer
                .split_partition_queue(topic, partition)
                .ok_or_else(|| KafkaError::Subscription(format!("{topic} has no queue")))?;
            queue.set_nonempty_callback(move || ready.notify_one());
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            consumer.incremental_assign(&list)?;
            Ok(queue)
        })();
        match assigned {
            Ok(queue) => Ok(Closing { topic: topic.to_owned(), partition, queue, consumer }),
            Err(error) => {
                release(&self.shared, topic, consumer);
                Err(error)
            }
        }
    }

    fn close(&self, closing: Closing) {
        let sender = self.closing.as_ref().expect("it is there until drop");
        if let Err(mpsc::TrySendError::Full(closing) | mpsc::TrySendError::Disconnected(closing)) =
            sender.try_send(closing)
        {
            close(&self.shared, closing);
        }
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        drop(self.closing.take());
        if let Some(closer) = self.closer.take()
            && closer.join().is_err()
        {
            tracing::error!("the thread that closes consumers panicked");
        }
    }
}

fn close(shared: &Mutex<ByTopic>, closing: Closing) {
    let Closing { topic, partition, queue, consumer } = closing;
    let mut list = TopicPartitionList::new();
    list.add_partition(&topic, partition);
    if let Err(error) = consumer.incremental_unassign(&list) {
        tracing::warn!(%error, topic, partition, "kafka partition can't be given back");
    }
    drop(queue);
    release(shared, &topic, consumer);
}

/// Gives back a place in a consumer, and closes it if that was the last.
fn release(shared: &Mutex<ByTopic>, topic: &str, consumer: Arc<Consumer>) {
    let mut unused = None;
    let mut by_topic = lock(shared);
    if let Some(of_topic) = by_topic.get_mut(topic)
        && let Some(index) = of_topic.iter().position(|one| Arc::ptr_eq(&one.consumer, &consumer))
    {
        of_topic[index].readers -= 1;
        if of_topic[index].readers == 0 {
            unused = Some(of_topic.swap_remove(index));
        }
    }
    // Closed by dropping, and without the lock: it takes a while.
    drop(by_topic);
    drop(consumer);
    drop(unused);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one partition.
pub(crate) struct Reader {
    kafka: Kafka,
    /// None only while it is dropped.
    open: Option<Closing>,
    partition: u32,
    /// The queue has become non-empty.
    ready: Arc<Notify>,
    position: i64,
    failed: Option<Failed>,
    /// How many errors of connections [`Reader::was_cut_off`] has told of.
    errors_told: u64,
}

/// Why the reader will not read on.
#[derive(Clone, Debug)]
enum Failed {
    OutOfRange,
    Damaged(String),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { open, partition, position, failed, .. } = self;
        let topic = open.as_ref().map(|open| &open.topic);
        f.debug_struct("Reader")
            .field("topic", &topic)
            .field("partition", partition)
            .field("position", position)
            .field("failed", failed)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) async fn open(
        kafka: Kafka,
        topic: &str,
        partition: u32,
        offset: i64,
    ) -> Result<Self, Error> {
        let (name, id) = (topic.to_owned(), partition_id(partition)?);
        let ready = Arc::new(Notify::new());
        let (consumers, notify) = (Arc::clone(&kafka.inner.consumers), Arc::clone(&ready));
        let open = blocking(move || consumers.assign(&name, id, offset.max(0), notify)).await?;
        let failed = (offset < 0).then_some(Failed::OutOfRange);
        let errors_told = kafka.inner.producers.errors();
        let position = offset;
        Ok(Self { kafka, open: Some(open), partition, ready, position, failed, errors_told })
    }

    pub(crate) fn was_cut_off(&mut self) -> bool {
        let errors = self.kafka.inner.producers.errors();
        std::mem::replace(&mut self.errors_told, errors) != errors
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    pub(crate) async fn offsets(&self) -> Result<(i64, i64), Error> {
        self.kafka.offsets(&self.opened().topic, self.partition).await
    }

    pub(crate) async fn next(
        &mut self,
        records_max: usize,
        max_wait: Duration,
    ) -> Result<Vec<Stored>, ReadError> {
        let deadline = Instant::now() + max_wait;
        loop {
            if let Some(failed) = self.failed.clone() {
                return Err(self.failure(failed).await);
            }
            let records = self.take_queued(records_max)?;
            let now = Instant::now();
            // Records before a failure are handed out first.
            if !records.is_empty() || (now >= deadline && self.failed.is_none()) {
                return Ok(records);
            }
            let look_again = deadline.min(now + LOOK_EVERY);
            tokio::select! {
                () = self.ready.notified(), if self.failed.is_none() => {}
                () = tokio::time::sleep_until(look_again), if self.failed.is_none() => {}
                else => {}
            }
        }
    }

    /// What was fetched already. An error that matters only later is kept.
    fn take_queued(&mut self, records_max: usize) -> Result<Vec<Stored>, ReadError> {
        let open = self.open.as_ref().expect("it is there until drop");
        // The consumer's common queue has errors of connections only. They must not pile up.
        while let Some(news) = open.consumer.poll(Duration::ZERO) {
            if let Err(error) = news {
                tracing::debug!(%error, topic = open.topic, "kafka consumer");
            }
        }
        let mut records = Vec::new();
        while records.len() < records_max {
            let stored = match open.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => stored(&message),
                Some(Err(error)) => match meaning(&error) {
                    Meaning::News => {
                        tracing::debug!(%error, topic = open.topic, "kafka consumer");
                        continue;
                    }
                    Meaning::Failed(failed) => {
                        self.failed = Some(failed);
                        break;
                    }
                    Meaning::Unavailable if records.is_empty() => {
                        return Err(ReadError::Unavailable(error.to_string()));
                    }
                    Meaning::Unavailable => break,
                },
            };
            self.position = stored.offset + 1;
            records.push(stored);
        }
        Ok(records)
    }

    async fn failure(&self, failed: Failed) -> ReadError {
        match failed {
            Failed::Damaged(why) => ReadError::Damaged(why),
            Failed::OutOfRange => match self.offsets().await {
                Ok((low, high)) => ReadError::OutOfRange { low, high },
                Err(error) => error.into(),
            },
        }
    }

    fn opened(&self) -> &Closing {
        self.open.as_ref().expect("it is there until drop")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.kafka.inner.consumers.close(open);
        }
    }
}

enum Meaning {
    /// librdkafka goes on by itself.
    News,
    Unavailable,
    Failed(Failed),
}

fn meaning(error: &KafkaError) -> Meaning {
    use RDKafkaErrorCode as Code;
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return Meaning::Unavailable;
    }
    let Some(code) = error.rdkafka_error_code() else {
        return Meaning::News;
    };
    if matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) {
        return Meaning::Failed(Failed::OutOfRange);
    }
    if matches!(code, Code::BadMessage | Code::InvalidMessage | Code::BadCompression) {
        return Meaning::Failed(Failed::Damaged(error.to_string()));
    }
    match classified(error) {
        // Such as a topic that is not there.
        Error::Refused(_) => Meaning::Unavailable,
        Error::Unavailable(_) => Meaning::News,
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let bytes = |value: &[u8]| Bytes::copy_from_slice(value);
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map_or_else(Bytes::new, bytes))
        };
        headers.iter().map(owned).collect()
    });
    let append_time = message.timestamp().to_millis().unwrap_or(0);
    Stored {
        offset: message.offset(),
        append_time: Timestamp::from_millisecond(append_time).unwrap_or(Timestamp::UNIX_EPOCH),
        key: message.key().map(bytes),
        headers,
        value: message.payload().map_or_else(Bytes::new, bytes),
    }
}
