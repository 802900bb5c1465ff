//! Makes topics and keeps their promises up to date.

use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::AlterConfig;
use rdkafka::admin::ConfigSource;
use rdkafka::admin::NewPartitions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::ResourceSpecifier;
use rdkafka::admin::TopicReplication;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::Error;
use crate::kafka::ANSWER_WAIT_MAX;
use crate::kafka::Context;
use crate::kafka::Kafka;
use crate::kafka::classified;
use crate::kafka::config::Config;
use crate::topics::Retention;
use crate::topics::TopicSpec;

type Admin = AdminClient<Context>;

pub(crate) async fn ensure_topic(
    kafka: &Kafka,
    config: &Config,
    spec: &TopicSpec,
) -> Result<(), Error> {
    let (brokers, partitions) = kafka.describe(spec.name).await?;
    let client = config.client().map_err(|error| Error::Refused(format!("{error:#}")))?;
    let admin: Admin =
        client.create_with_context(Context::default()).map_err(|error| classified(&error))?;
    let replication = config.replication(brokers);
    let settings = settings(spec, replication);
    let result = match partitions {
        None => create(&admin, spec, replication, &settings).await,
        Some(partitions) => adjust(&admin, spec, partitions, &settings).await,
    };
    // Closing a client waits for its threads.
    tokio::task::spawn_blocking(move || drop(admin));
    result?;
    // What the producer knows of the topic is from before.
    kafka.describe(spec.name).await.map(drop)
}

fn settings(spec: &TopicSpec, replication: i32) -> Vec<(&'static str, String)> {
    let in_sync_min = if replication >= 3 { 2 } else { 1 };
    let mut settings = vec![
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("min.insync.replicas", in_sync_min.to_string()),
    ];
    match spec.retention {
        Retention::Delete(age) => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", age.as_millis().to_string()));
        }
        Retention::Compact => settings.push(("cleanup.policy", "compact".to_owned())),
    }
    settings
}

async fn create(
    admin: &Admin,
    spec: &TopicSpec,
    replication: i32,
    settings: &[(&'static str, String)],
) -> Result<(), Error> {
    let partitions = i32::try_from(spec.partitions).expect("bounded by PARTITIONS_MAX");
    let mut topic = NewTopic::new(spec.name, partitions, TopicReplication::Fixed(replication));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let results =
        admin.create_topics([&topic], &options()).await.map_err(|error| classified(&error))?;
    match results.into_iter().next() {
        // Another process was faster.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(classified(&KafkaError::AdminOp(code))),
        None => {
            Err(Error::Unavailable("the broker did not say whether it made the topic".to_owned()))
        }
    }
}

async fn adjust(
    admin: &Admin,
    spec: &TopicSpec,
    partitions: u32,
    settings: &[(&'static str, String)],
) -> Result<(), Error> {
    if partitions < spec.partitions {
        let more = NewPartitions::new(spec.name, spec.partitions as usize);
        let results = admin
            .create_partitions([&more], &options())
            .await
            .map_err(|error| classified(&error))?;
        if let Some(Err((_, code))) = results.into_iter().next()
            && !matches!(code, RDKafkaErrorCode::InvalidPartitions)
        {
            return Err(classified(&KafkaError::AdminOp(code)));
        }
    }
    let topic = ResourceSpecifier::Topic(spec.name);
    let described =
        admin.describe_configs([&topic], &options()).await.map_err(|error| classified(&error))?;
    let Some(Ok(described)) = described.into_iter().next() else {
        return Err(Error::Unavailable(
            "the broker did not say how the topic is set up".to_owned(),
        ));
    };
    let differs = |(name, value): &(&str, String)| {
        described.get(name).is_none_or(|entry| entry.value.as_deref() != Some(value.as_str()))
    };
    if !settings.iter().any(differs) {
        return Ok(());
    }
    // The call replaces all settings of the topic: what an operator set beside ours is kept.
    let mut altered = AlterConfig::new(topic);
    for entry in &described.entries {
        if entry.source == ConfigSource::DynamicTopic
            && let Some(value) = &entry.value
        {
            altered = altered.set(&entry.name, value);
        }
    }
    for (name, value) in settings {
        altered = altered.set(name, value);
    }
    let results =
        admin.alter_configs([&altered], &options()).await.map_err(|error| classified(&error))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err((_, code))) => Err(classified(&KafkaError::AdminOp(code))),
        None => Err(Error::Unavailable(
            "the broker did not say whether it changed the topic".to_owned(),
        )),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_WAIT_MAX))
        .operation_timeout(Some(ANSWER_WAIT_MAX))
}
