//! Appends records: one idempotent producer, replaced when librdkafka gives it up.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::FutureProducer;
use rdkafka::producer::FutureRecord;
use rdkafka::producer::Producer as _;

use crate::error::Error;
use crate::kafka::Context;
use crate::kafka::classified;
use crate::kafka::partition_id;
use crate::record::Record;

/// The wait before a record is offered again to a producer whose queue is full.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);

/// The producer, and how to make another.
pub(crate) struct Producers {
    config: ClientConfig,
    context: Context,
    current: Mutex<FutureProducer<Context>>,
}

impl std::fmt::Debug for Producers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producers").finish_non_exhaustive()
    }
}

impl Producers {
    pub(crate) fn open(config: anyhow::Result<ClientConfig>) -> anyhow::Result<Self> {
        let config = config?;
        let context = Context::default();
        let producer = config
            .create_with_context(context.clone())
            .context("the Kafka producer can't be made")?;
        Ok(Self { config, context, current: Mutex::new(producer) })
    }

    /// How many errors of connections there were. Consumers keep theirs to themselves; a broker that goes away takes this
    /// client's connection too, and its thread notices at once.
    pub(crate) fn errors(&self) -> u64 {
        self.context.errors.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> FutureProducer<Context> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The offset of the record once all in-sync replicas have it.
    pub(crate) async fn produce(
        &self,
        topic: &str,
        partition: u32,
        record: &Record,
    ) -> Result<i64, Error> {
        let id = partition_id(partition)?;
        let producer = self.current();
        let key = record.key.as_deref();
        let mut offered = FutureRecord::to(topic)
            .partition(id)
            .payload(record.value.as_ref())
            .headers(headers(record));
        offered.key = key;
        let delivery = loop {
            match producer.send_result(offered) {
                Ok(delivery) => break delivery,
                Err((error, returned)) if is_queue_full(&error) => {
                    offered = returned;
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                }
                Err((error, _)) => return Err(self.failed(&producer, &error)),
            }
        };
        match delivery.await {
            Ok(Ok(delivered)) => Ok(delivered.offset),
            Ok(Err((error, _))) => Err(self.failed(&producer, &error)),
            Err(_) => Err(Error::Unavailable("the producer was closed".to_owned())),
        }
    }

    /// An idempotent producer that can't say any more what was appended fails for good: the next call finds a new one.
    fn failed(&self, producer: &FutureProducer<Context>, error: &KafkaError) -> Error {
        let Some((code, reason)) = producer.client().fatal_error() else {
            return classified(error);
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the first of many failures finds the failed one still in place.
        if current.client().native_ptr() == producer.client().native_ptr() {
            tracing::error!(%code, reason, "kafka producer failed for good, making another");
            match self.config.create_with_context(self.context.clone()) {
                Ok(producer) => *current = producer,
                Err(error) => tracing::error!(%error, "kafka producer can't be made"),
            }
        }
        Error::Unavailable(reason)
    }
}

fn headers(record: &Record) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: Some(value.as_ref()) });
    }
    headers
}

fn is_queue_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
