//! The Kafka adapter: librdkafka, and nothing of it leaves this folder.
//!
//! Whatever Kafka does, two things stay true: a record that was acknowledged is in the log once (within one producer's
//! life), and a reader never skips a record in silence. Brokers that are away are waited for.

mod admin;
mod config;
mod producer;
mod reader;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;

use crate::error::Error;
use crate::kafka::config::Config;
use crate::kafka::producer::Producers;
use crate::kafka::reader::Consumers;
use crate::record::Record;
use crate::record::Start;
use crate::topics::TopicSpec;

pub(crate) use reader::Reader;

/// The most that a question to the brokers may take; appending has no such bound.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The wait before brokers are asked again that have no answer yet.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    producers: Producers,
    consumers: Arc<Consumers>,
}

impl Kafka {
    /// `uri` as [`crate::Bus::open`] describes it, scheme included.
    pub(crate) fn open(uri: &str) -> anyhow::Result<Self> {
        let config = Config::parse(uri)?;
        let producers = Producers::open(config.producer())?;
        let consumers = Arc::new(Consumers::open(config.consumer())?);
        Ok(Self { inner: Arc::new(Inner { config, producers, consumers }) })
    }

    pub(crate) async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        admin::ensure_topic(self, &self.inner.config, spec).await
    }

    pub(crate) async fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let (_, partitions) = self.describe(topic).await?;
        partitions.ok_or_else(|| Error::Refused(format!("there is no topic {topic}")))
    }

    pub(crate) async fn produce(
        &self,
        topic: &str,
        partition: u32,
        record: &Record,
    ) -> Result<i64, Error> {
        self.inner.producers.produce(topic, partition, record).await
    }

    pub(crate) async fn reader(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<Reader, Error> {
        let offset = match start {
            Start::Offset(offset) => offset,
            Start::Beginning => self.offsets(topic, partition).await?.0,
            Start::End => self.offsets(topic, partition).await?.1,
        };
        Reader::open(self.clone(), topic, partition, offset).await
    }

    /// The oldest offset of a partition, and the next. A partition whose leader is being chosen is asked again.
    pub(crate) async fn offsets(&self, topic: &str, partition: u32) -> Result<(i64, i64), Error> {
        let id = partition_id(partition)?;
        let deadline = Instant::now() + ANSWER_WAIT_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (producer, name) = (self.inner.producers.current(), topic.to_owned());
            let asked = blocking(move || producer.client().fetch_watermarks(&name, id, left)).await;
            match asked {
                Err(Error::Unavailable(_)) if Instant::now() + ASK_AGAIN_AFTER < deadline => {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    /// How many brokers there are, and how many partitions of the topic; none if there is no such topic.
    async fn describe(&self, topic: &str) -> Result<(usize, Option<u32>), Error> {
        let producer = self.inner.producers.current();
        let name = topic.to_owned();
        let metadata =
            blocking(move || producer.client().fetch_metadata(Some(&name), ANSWER_WAIT_MAX))
                .await?;
        let brokers = metadata.brokers().len();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok((brokers, None));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                let partitions = u32::try_from(found.partitions().len());
                Ok((brokers, Some(partitions.expect("Kafka numbers them as i32"))))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok((brokers, None))
            }
            Some(other) => Err(Error::Unavailable(other.to_string())),
        }
    }
}

/// What librdkafka has to tell beside results.
#[derive(Clone, Debug, Default)]
struct Context {
    /// How many errors of connections the client has told of.
    errors: Arc<AtomicU64>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "kafka client");
            }
            // Every attempt to reach a broker that is away is an error to librdkafka.
            RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
            | RDKafkaLogLevel::Notice
            | RDKafkaLogLevel::Info
            | RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "kafka client"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.fetch_add(1, Ordering::Release);
        tracing::warn!(%error, reason, "kafka");
    }
}

impl rdkafka::consumer::ConsumerContext for Context {}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer.map_err(|error| classified(&error)),
        Err(_) => Err(Error::Unavailable("the runtime is stopping".to_owned())),
    }
}

fn partition_id(partition: u32) -> Result<i32, Error> {
    i32::try_from(partition)
        .map_err(|_| Error::Refused(format!("there is no partition {partition}")))
}

/// Whether asking again may help.
fn classified(error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let refused = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
                | Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidTopic
                | Code::InvalidRecord
                | Code::InvalidArgument
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::PolicyViolation
                | Code::InvalidConfig
                | Code::InvalidPartitions
                | Code::InvalidReplicationFactor
        )
    );
    if refused { Error::Refused(error.to_string()) } else { Error::Unavailable(error.to_string()) }
}
