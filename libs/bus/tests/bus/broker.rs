//! What is particular to Kafka: a broker that is away, killed, or has forgotten.

use std::time::Duration;

use bus::Bus;
use bus::Error;
use bus::ReadError;
use bus::Retention;
use bus::Start;
use bus::TopicSpec;
use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::client::DefaultClientContext;
use tokio::task::JoinSet;

use crate::support::broker;
use crate::support::eventually;
use crate::support::open;
use crate::support::read_all;
use crate::support::record;
use crate::support::text;

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_in_the_middle_loses_doubles_and_reorders_nothing() {
    const PARTITIONS: u32 = 6;
    const RECORDS: usize = 400;
    let (kafka, _folder) = broker().await;
    let bus = open(&kafka.url());
    let spec =
        TopicSpec { name: "killed", partitions: PARTITIONS, retention: Retention::Delete(HOUR) };
    bus.ensure_topic(&spec).await.unwrap();

    let mut readers = JoinSet::new();
    for partition in 0..PARTITIONS {
        let mut reader = bus.reader("killed", partition, Start::Beginning).await.unwrap();
        readers.spawn(async move {
            let mut next = 0;
            while next < RECORDS {
                // Never an error: a broker that is away looks like one without news.
                for stored in reader.next(100, Duration::from_millis(200)).await.unwrap() {
                    assert_eq!(
                        (stored.offset, text(&stored)),
                        (next as i64, next.to_string().as_str())
                    );
                    next += 1;
                }
            }
        });
    }
    let mut producers = JoinSet::new();
    for partition in 0..PARTITIONS {
        let bus = bus.clone();
        producers.spawn(async move {
            for index in 0..RECORDS {
                let offset = bus.produce("killed", partition, record(&index.to_string())).await;
                assert_eq!(offset, Ok(index as i64));
            }
        });
    }
    eventually("some records are in", async || bus.end_offset("killed", 0).await.unwrap() > 20)
        .await;
    kafka.kill().await;
    kafka.restart().await.unwrap();
    producers.join_all().await;
    readers.join_all().await;
    for partition in 0..PARTITIONS {
        assert_eq!(read_all(&bus, "killed", partition).await.len(), RECORDS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_unavailable_to_questions_and_waited_for_by_records() {
    let (kafka, _folder) = broker().await;
    let bus = open(&kafka.url());
    let spec = TopicSpec { name: "away", partitions: 1, retention: Retention::Delete(HOUR) };
    bus.ensure_topic(&spec).await.unwrap();
    bus.produce("away", 0, record("before")).await.unwrap();
    kafka.kill().await;

    assert!(matches!(bus.end_offset("away", 0).await, Err(Error::Unavailable(_))));
    assert!(matches!(bus.ensure_topic(&spec).await, Err(Error::Unavailable(_))));
    let asked = bus.reader("away", 0, Start::End).await;
    assert!(matches!(asked.err(), Some(ReadError::Unavailable(_))));
    // Opened while nobody is there, as at a start: it reads once somebody is.
    let stranger = open(&kafka.url());
    let mut reader = stranger.reader("away", 0, Start::Offset(0)).await.unwrap();
    assert_eq!(reader.next(1, Duration::from_millis(50)).await, Ok(vec![]));

    let produced = stranger.produce("away", 0, record("meanwhile"));
    let (restarted, produced) = tokio::join!(kafka.restart(), produced);
    restarted.unwrap();
    assert_eq!(produced, Ok(1));
    let mut values = Vec::new();
    while values.len() < 2 {
        let records = reader.next(10, Duration::from_secs(60)).await.unwrap();
        values.extend(records.iter().map(|stored| text(stored).to_owned()));
    }
    assert_eq!(values, ["before", "meanwhile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_tells_once_that_the_broker_was_away() {
    let (kafka, _folder) = broker().await;
    let bus = open(&kafka.url());
    let spec = TopicSpec { name: "cut", partitions: 1, retention: Retention::Delete(HOUR) };
    bus.ensure_topic(&spec).await.unwrap();
    bus.produce("cut", 0, record("before")).await.unwrap();
    let mut reader = bus.reader("cut", 0, Start::Beginning).await.unwrap();
    assert_eq!(reader.next(1, Duration::from_secs(60)).await.unwrap().len(), 1);
    assert_eq!(reader.next(1, Duration::from_secs(1)).await, Ok(vec![]));
    assert!(!reader.was_cut_off());

    kafka.kill().await;
    let (restarted, produced) =
        tokio::join!(kafka.restart(), bus.produce("cut", 0, record("after")));
    restarted.unwrap();
    produced.unwrap();
    assert_eq!(text(&reader.next(1, Duration::from_secs(60)).await.unwrap()[0]), "after");
    assert!(reader.was_cut_off(), "before what came after is made use of");
    assert_eq!(reader.next(1, Duration::from_secs(1)).await, Ok(vec![]));
    assert!(!reader.was_cut_off());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_forgot_is_out_of_range() {
    let (kafka, _folder) = broker().await;
    let bus = open(&kafka.url());
    let spec = TopicSpec { name: "forgets", partitions: 1, retention: Retention::Delete(HOUR) };
    bus.ensure_topic(&spec).await.unwrap();
    for value in ["a", "b", "c"] {
        bus.produce("forgets", 0, record(value)).await.unwrap();
    }
    forget(&kafka.bootstrap(), "forgets", 2).await;

    assert_eq!(bus.low_offset("forgets", 0).await, Ok(2));
    let mut reader = bus.reader("forgets", 0, Start::Offset(0)).await.unwrap();
    let told = reader.next(10, Duration::from_secs(30)).await;
    assert_eq!(told, Err(ReadError::OutOfRange { low: 2, high: 3 }));
    assert_eq!(text(&read_all(&bus, "forgets", 0).await[0]), "c");
}

/// As retention does, now.
async fn forget(bootstrap: &str, topic: &str, before: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(before)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

#[test]
fn tls_is_refused_by_a_build_without_it() {
    let opened = Bus::open("kafka+ssl://127.0.0.1:9092", &mut Registry::default());
    let refused = opened.err().map(|error| error.to_string());
    assert!(cfg!(feature = "kafka-tls") || refused.unwrap().contains("kafka-tls"));
}

#[test]
fn a_uri_of_no_known_scheme_is_refused() {
    for uri in ["", "kafka", "nats://127.0.0.1:4222", "FILE:/x"] {
        let refused = Bus::open(uri, &mut Registry::default()).unwrap_err().to_string();
        assert!(refused.contains("kafka://") && refused.contains("file:"), "{refused}");
    }
}
