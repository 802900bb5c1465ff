//! What the tests share: a log to test, what is in it, and waiting with a deadline.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use bus::Bus;
use bus::Record;
use bus::Start;
use bus::Stored;
use bus::clicks;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use stack::Kafka;
use stack::Options;
use stack::TemporaryFolder;
use uuid::Uuid;

/// Generous: a broker that was killed needs seconds, and the machine may be busy compiling.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A log in a folder of its own.
pub(crate) fn file_log() -> (Bus, TemporaryFolder) {
    let folder = TemporaryFolder::new().unwrap();
    let bus = open(&format!("file:{}", folder.path().join("log").display()));
    (bus, folder)
}

/// A broker of the test's own.
pub(crate) async fn broker() -> (Kafka, TemporaryFolder) {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("kafka")).unwrap();
    (Kafka::start(options).await.unwrap(), folder)
}

pub(crate) fn open(uri: &str) -> Bus {
    Bus::open(uri, &mut Registry::default()).unwrap()
}

pub(crate) fn record(value: &str) -> Record {
    Record {
        key: Some(Bytes::from_static(b"key")),
        headers: Vec::new(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

pub(crate) fn text(stored: &Stored) -> &str {
    std::str::from_utf8(&stored.value).unwrap()
}

/// Everything that a partition holds now.
pub(crate) async fn read_all(bus: &Bus, topic: &str, partition: u32) -> Vec<Stored> {
    let mut reader = bus.reader(topic, partition, Start::Beginning).await.unwrap();
    let end = reader.end_offset().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while reader.position() < end {
        assert!(Instant::now() < deadline, "{topic} {partition} stops at {}", reader.position());
        records.extend(reader.next(100, Duration::from_millis(100)).await.unwrap());
    }
    records
}

/// What an aggregator would count: the numbers of each incarnation and partition, each once, and it checks that none is
/// jumped over.
pub(crate) async fn counted(bus: &Bus, topic: &str) -> BTreeMap<(Uuid, u32), Vec<Bytes>> {
    let mut counted: BTreeMap<(Uuid, u32), Vec<Bytes>> = BTreeMap::new();
    for partition in 0..bus.partitions(topic).await.unwrap() {
        for stored in read_all(bus, topic, partition).await {
            let record = clicks::decode(&stored).unwrap();
            let known = counted.entry((record.incarnation, partition)).or_default();
            for (number, click) in (record.first..).zip(record.clicks) {
                let next = known.len() as u64 + 1;
                assert!(number <= next, "partition {partition} jumps from {next} to {number}");
                if number == next {
                    known.push(click);
                } else {
                    let before = &known[usize::try_from(number).unwrap() - 1];
                    assert_eq!(*before, click, "click {number} was sent again as another");
                }
            }
        }
    }
    counted
}

/// Waits until it holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value of a metric without labels.
pub(crate) fn metric(registry: &Registry, name: &str) -> i64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}
