//! From an outbox to the bus: what several services announce in the same way.
//!
//! On a compacted topic every value is whole (a deletion is a value, too), so of a batch only the newest one of each key is sent.
//! Then nothing in a batch has an order to keep, all of it may be on its way at once, and batches follow each other. On any other
//! topic each record counts: they are sent one after the other.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, Record, Retention, TopicSpec};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Records on their way at once, at most.
const IN_FLIGHT_MAX: usize = 256;
/// A topic that is announced on has one partition: everyone follows all of it.
const PARTITION: u32 = 0;
/// The wait before a topic is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Publishes on some topics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcer {
    bus: Bus,
    topics: &'static [TopicSpec],
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The topic's name.
    pub topic: String,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Vec<u8>,
}

impl Announcer {
    /// Will publish on `topics`; asks nothing of the bus yet.
    pub fn new(bus: Bus, topics: &'static [TopicSpec]) -> Announcer {
        Announcer { bus, topics }
    }

    /// Makes the topics that are not there, however long the bus is away.
    pub async fn make_topics(&self) {
        for topic in self.topics {
            let mut said = false;
            while let Err(error) = self.bus.ensure_topic(topic).await {
                // Once an outage: it is tried again twice a second.
                if !said {
                    tracing::warn!(topic = topic.name, error = %error, "topic is not there yet");
                }
                said = true;
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Publishes announcements, given from the oldest to the newest, and returns once the bus has acknowledged them.
    /// Waits for as long as the bus is away; dropping the future is giving up.
    ///
    /// # Errors
    /// A topic is not one of ours, the bus refuses, or its state is unknown: all of it must be published again.
    pub async fn publish(
        &self,
        announcements: impl IntoIterator<Item = Announcement>,
    ) -> anyhow::Result<()> {
        let mut by_topic: Vec<Vec<(Vec<u8>, Vec<u8>)>> = vec![Vec::new(); self.topics.len()];
        for Announcement { topic, key, value } in announcements {
            let nth = self.topics.iter().position(|known| known.name == topic);
            // A newer version wrote it, and its relay will know it.
            let nth = nth.with_context(|| format!("nothing is announced on `{topic}`"))?;
            by_topic[nth].push((key, value));
        }
        for (topic, changes) in self.topics.iter().zip(by_topic) {
            let sent = match topic.retention {
                Retention::Compact => self.send(topic, newest(changes), IN_FLIGHT_MAX).await,
                Retention::Delete(_) => self.send(topic, changes, 1).await,
            };
            if let Err(bus::Error::Refused(_)) = sent {
                // A log that was set up anew has no topics; then the next attempt succeeds.
                self.bus.ensure_topic(topic).await?;
            }
            sent.with_context(|| format!("publishing on {}", topic.name))?;
        }
        Ok(())
    }

    async fn send(
        &self,
        topic: &TopicSpec,
        changes: Vec<(Vec<u8>, Vec<u8>)>,
        in_flight_max: usize,
    ) -> Result<(), bus::Error> {
        let sends = changes.into_iter().map(|(key, value)| {
            let record = Record { key: Some(key.into()), headers: Vec::new(), value: value.into() };
            self.bus.produce(topic.name, PARTITION, record)
        });
        let sent = stream::iter(sends).buffer_unordered(in_flight_max);
        sent.try_for_each(|_offset| async { Ok(()) }).await
    }
}

/// The last value of each key, in the order of those values.
fn newest(changes: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let last: HashMap<Vec<u8>, usize> =
        changes.iter().enumerate().map(|(nth, (key, _))| (key.clone(), nth)).collect();
    changes
        .into_iter()
        .enumerate()
        .filter(|(nth, (key, _))| last.get(key) == Some(nth))
        .map(|(_, change)| change)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: TopicSpec =
        TopicSpec { name: "states", partitions: 1, retention: Retention::Compact };
    const EVENTS: TopicSpec = TopicSpec {
        name: "events",
        partitions: 1,
        retention: Retention::Delete(Duration::from_secs(3_600)),
    };

    fn bus_in(folder: &tempfile::TempDir) -> Bus {
        let uri = format!("file:{}", folder.path().join("log").display());
        Bus::open(&uri, &mut prometheus_client::registry::Registry::default()).unwrap()
    }

    fn on(topic: &str, key: &str, value: &str) -> Announcement {
        let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        Announcement { topic: topic.to_owned(), key, value }
    }

    #[tokio::test]
    async fn a_topic_that_is_gone_is_made_again_for_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus_in(&folder);
        let announcer = Announcer::new(bus.clone(), &[STATES]);
        assert!(announcer.publish([on("states", "key", "value")]).await.is_err());
        announcer.publish([on("states", "key", "value")]).await.unwrap();
        assert_eq!(bus.end_offset(STATES.name, 0).await, Ok(1));
    }

    #[tokio::test]
    async fn states_are_sent_once_a_key_and_events_one_by_one_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus_in(&folder);
        let announcer = Announcer::new(bus.clone(), &[STATES, EVENTS]);
        announcer.make_topics().await;
        let each = |topic| ["1", "2", "3"].map(|value| on(topic, "key", value));
        announcer.publish(each("states").into_iter().chain(each("events"))).await.unwrap();
        assert_eq!(bus.end_offset(STATES.name, 0).await, Ok(1));
        let mut reader = bus.reader(EVENTS.name, 0, bus::Start::Beginning).await.unwrap();
        let records = reader.next(10, Duration::from_secs(5)).await.unwrap();
        let values: Vec<_> = records.iter().map(|record| record.value.to_vec()).collect();
        assert_eq!(values, [b"1", b"2", b"3"]);
        let unknown = announcer.publish([on("no-such", "key", "value")]).await.unwrap_err();
        assert!(unknown.to_string().contains("no-such"), "{unknown}");
    }

    #[test]
    fn of_each_key_only_the_newest_value_is_sent() {
        let change = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let sent =
            newest(vec![change("a", "1"), change("b", "1"), change("a", "2"), change("c", "1")]);
        assert_eq!(sent, [change("b", "1"), change("a", "2"), change("c", "1")]);
    }
}
