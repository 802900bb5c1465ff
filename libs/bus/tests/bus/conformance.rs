//! One suite for every adapter: what a log promises, whichever it is.

use std::future::Future;
use std::time::Duration;
use std::time::Instant;

use bus::Bus;
use bus::Error;
use bus::HEADERS_MAX;
use bus::RECORD_BYTES_MAX;
use bus::ReadError;
use bus::Record;
use bus::Retention;
use bus::Start;
use bus::TopicSpec;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::support::broker;
use crate::support::eventually;
use crate::support::file_log;
use crate::support::open;
use crate::support::read_all;
use crate::support::record;
use crate::support::text;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_disk_keeps_every_promise() {
    let (bus, _folder) = file_log();
    keeps_every_promise(&bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_every_promise() {
    let (kafka, _folder) = broker().await;
    keeps_every_promise(&open(&kafka.url())).await;
}

async fn keeps_every_promise(bus: &Bus) {
    promise("topics are made once and only grow", topics_are_made_once_and_only_grow(bus)).await;
    promise("records come back as they were given", records_come_back_as_given(bus)).await;
    promise("a reader begins where it is told", a_reader_begins_where_told(bus)).await;
    promise("a reader waits for what comes", a_reader_waits_for_what_comes(bus)).await;
    promise("an offset out of range is said", an_offset_out_of_range_is_said(bus)).await;
    promise("what can't be appended is refused", what_can_not_be_appended_is_refused(bus)).await;
    promise("offsets have no holes under concurrency", offsets_are_dense(bus)).await;
    promise("many readers share a topic", many_readers_share_a_topic(bus)).await;
    promise("a partition can be read again and again", a_partition_can_be_read_again(bus)).await;
    promise("a cancelled read loses nothing", a_cancelled_read_loses_nothing(bus)).await;
}

async fn promise(what: &str, kept: impl Future<Output = ()>) {
    // Named by its panic's line, or by this if it hangs.
    let kept = tokio::time::timeout(Duration::from_secs(120), kept).await;
    assert!(kept.is_ok(), "not within two minutes: {what}");
}

async fn topic(bus: &Bus, name: &'static str, partitions: u32) {
    let spec = TopicSpec { name, partitions, retention: Retention::Delete(DAY) };
    bus.ensure_topic(&spec).await.unwrap();
}

async fn topics_are_made_once_and_only_grow(bus: &Bus) {
    assert!(matches!(bus.partitions("grows").await, Err(Error::Refused(_))));
    let spec = |partitions, retention| TopicSpec { name: "grows", partitions, retention };
    for (partitions, expected) in [(2, 2), (2, 2), (5, 5), (3, 5)] {
        bus.ensure_topic(&spec(partitions, Retention::Delete(DAY))).await.unwrap();
        eventually("the topic has grown", async || bus.partitions("grows").await == Ok(expected))
            .await;
    }
    bus.produce("grows", 4, record("in the last")).await.unwrap();
    bus.ensure_topic(&spec(5, Retention::Delete(2 * DAY))).await.unwrap();
    bus.ensure_topic(&spec(5, Retention::Compact)).await.unwrap();
    assert_eq!(read_all(bus, "grows", 4).await.len(), 1);
}

async fn records_come_back_as_given(bus: &Bus) {
    topic(bus, "as-given", 2).await;
    let full = Record {
        key: Some(Bytes::from_static(b"\0key\xff")),
        headers: vec![("one", Bytes::from_static(b"\x01")), ("empty", Bytes::new())],
        value: Bytes::from_static(b"\0value\xff"),
    };
    let bare = Record::default();
    let big = Record { value: vec![7; RECORD_BYTES_MAX].into(), ..Record::default() };
    for (offset, record) in (0..).zip([&full, &bare, &big]) {
        assert_eq!(bus.produce("as-given", 1, record.clone()).await, Ok(offset));
    }
    let stored = read_all(bus, "as-given", 1).await;
    for (offset, (stored, given)) in (0..).zip(stored.iter().zip([&full, &bare, &big])) {
        assert_eq!((stored.offset, &stored.key, &stored.value), (offset, &given.key, &given.value));
        let headers: Vec<_> =
            stored.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(headers, given.headers);
        assert_eq!(stored.header("one"), given.headers.first().map(|(_, value)| value));
    }
    assert!(stored.windows(2).all(|two| two[0].append_time <= two[1].append_time));
    let age = jiff::Timestamp::now().duration_since(stored[0].append_time);
    assert!(age.abs() < jiff::SignedDuration::from_mins(5), "appended {age} ago");
    assert_eq!(bus.end_offset("as-given", 1).await, Ok(3));
    assert_eq!(bus.low_offset("as-given", 1).await, Ok(0));
    assert_eq!(bus.end_offset("as-given", 0).await, Ok(0));
}

async fn a_reader_begins_where_told(bus: &Bus) {
    topic(bus, "begins", 1).await;
    for value in ["a", "b", "c"] {
        bus.produce("begins", 0, record(value)).await.unwrap();
    }
    for (start, position, value) in
        [(Start::Beginning, 0, "a"), (Start::Offset(1), 1, "b"), (Start::Offset(2), 2, "c")]
    {
        let mut reader = bus.reader("begins", 0, start).await.unwrap();
        assert_eq!(reader.position(), position);
        let records = reader.next(1, LONG).await.unwrap();
        assert_eq!((records.len(), text(&records[0])), (1, value));
        assert_eq!(reader.position(), position + 1);
    }
    for start in [Start::End, Start::Offset(3)] {
        let mut reader = bus.reader("begins", 0, start).await.unwrap();
        assert_eq!(reader.position(), 3);
        assert_eq!(reader.next(10, SHORT).await, Ok(vec![]));
        assert_eq!(reader.end_offset().await, Ok(3));
    }
}

async fn a_reader_waits_for_what_comes(bus: &Bus) {
    topic(bus, "waits", 1).await;
    let mut reader = bus.reader("waits", 0, Start::End).await.unwrap();
    let begun = Instant::now();
    assert_eq!(reader.next(10, SHORT).await, Ok(vec![]));
    assert!(begun.elapsed() >= SHORT);
    for value in ["a", "b", "c"] {
        let begun = Instant::now();
        let (read, produced) =
            tokio::join!(reader.next(10, LONG), bus.produce("waits", 0, record(value)));
        produced.unwrap();
        assert_eq!(text(&read.unwrap()[0]), value);
        assert!(begun.elapsed() < LONG / 2, "the reader slept through it: {:?}", begun.elapsed());
    }
}

async fn an_offset_out_of_range_is_said(bus: &Bus) {
    topic(bus, "range", 1).await;
    for value in ["a", "b", "c"] {
        bus.produce("range", 0, record(value)).await.unwrap();
    }
    for offset in [4, 1_000_000, -1] {
        let mut reader = bus.reader("range", 0, Start::Offset(offset)).await.unwrap();
        for _ in 0..2 {
            let told = reader.next(10, LONG).await;
            assert_eq!(told, Err(ReadError::OutOfRange { low: 0, high: 3 }), "offset {offset}");
        }
    }
}

async fn what_can_not_be_appended_is_refused(bus: &Bus) {
    topic(bus, "refuses", 2).await;
    let compacted = TopicSpec { name: "keyed", partitions: 1, retention: Retention::Compact };
    bus.ensure_topic(&compacted).await.unwrap();
    let long = Record { value: vec![0; RECORD_BYTES_MAX + 1].into(), ..Record::default() };
    let many =
        Record { headers: vec![("name", Bytes::new()); HEADERS_MAX + 1], ..Record::default() };
    for (topic, partition, record, what) in [
        ("refuses", 0, long, "too long"),
        ("refuses", 0, many, "too many headers"),
        ("refuses", 2, record("a"), "no such partition"),
        ("refuses", u32::MAX, record("a"), "no such partition"),
        ("keyed", 0, Record::default(), "no key"),
    ] {
        let refused = bus.produce(topic, partition, record).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{what}: {refused:?}");
    }
    assert_eq!(bus.end_offset("refuses", 0).await, Ok(0));
    assert_eq!(bus.produce("keyed", 0, record("with a key")).await, Ok(0));
}

async fn offsets_are_dense(bus: &Bus) {
    const PRODUCERS: usize = 20;
    const RECORDS: usize = 20;
    topic(bus, "dense", 1).await;
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let bus = bus.clone();
        producers.spawn(async move {
            let mut offsets = Vec::new();
            for index in 0..RECORDS {
                let value = format!("{producer} {index}");
                offsets.push((bus.produce("dense", 0, record(&value)).await.unwrap(), value));
            }
            assert!(offsets.is_sorted());
            offsets
        });
    }
    let mut acknowledged: Vec<_> = producers.join_all().await.into_iter().flatten().collect();
    acknowledged.sort();
    assert!(acknowledged.iter().map(|(offset, _)| *offset).eq(0..(PRODUCERS * RECORDS) as i64));
    let stored = read_all(bus, "dense", 0).await;
    let found = stored.iter().map(|stored| (stored.offset, text(stored).to_owned()));
    assert!(found.eq(acknowledged));
}

async fn many_readers_share_a_topic(bus: &Bus) {
    const PARTITIONS: u32 = 24;
    const RECORDS: usize = 50;
    topic(bus, "shared", PARTITIONS).await;
    let mut readers = JoinSet::new();
    // Two of each partition, independent of each other, one of them slow.
    for (partition, records_max) in
        (0..PARTITIONS).flat_map(|partition| [(partition, 100), (partition, 1)])
    {
        let mut reader = bus.reader("shared", partition, Start::Beginning).await.unwrap();
        readers.spawn(async move {
            let mut values = Vec::new();
            while values.len() < RECORDS {
                for stored in reader.next(records_max, LONG).await.unwrap() {
                    assert_eq!(stored.offset, values.len() as i64);
                    values.push(text(&stored).to_owned());
                }
            }
            assert!(
                values
                    .iter()
                    .map(String::as_str)
                    .eq((0..RECORDS).map(|index| format!("{partition} {index}")))
            );
        });
    }
    let mut producers = JoinSet::new();
    for partition in 0..PARTITIONS {
        let bus = bus.clone();
        producers.spawn(async move {
            for index in 0..RECORDS {
                bus.produce("shared", partition, record(&format!("{partition} {index}")))
                    .await
                    .unwrap();
            }
        });
    }
    producers.join_all().await;
    readers.join_all().await;
}

async fn a_partition_can_be_read_again(bus: &Bus) {
    topic(bus, "again", 1).await;
    for index in 0..100 {
        bus.produce("again", 0, record(&index.to_string())).await.unwrap();
    }
    let mut other = bus.reader("again", 0, Start::Offset(50)).await.unwrap();
    for start in (0..100).rev().step_by(9) {
        let mut reader = bus.reader("again", 0, Start::Offset(start)).await.unwrap();
        let records = reader.next(3, LONG).await.unwrap();
        assert_eq!(records[0].offset, start);
    }
    assert_eq!(other.next(1, LONG).await.unwrap()[0].offset, 50);
}

async fn a_cancelled_read_loses_nothing(bus: &Bus) {
    topic(bus, "cancelled", 1).await;
    let mut reader = bus.reader("cancelled", 0, Start::Beginning).await.unwrap();
    let producer = async {
        for index in 0..200 {
            bus.produce("cancelled", 0, record(&index.to_string())).await.unwrap();
        }
    };
    let consumer = async {
        let mut next = 0;
        while next < 200 {
            let patience = Duration::from_micros(50).mul_f64((next % 40) as f64);
            let Ok(records) = tokio::time::timeout(patience, reader.next(5, LONG)).await else {
                continue;
            };
            for stored in records.unwrap() {
                assert_eq!(stored.offset, next);
                next += 1;
            }
        }
    };
    tokio::join!(producer, consumer);
}
