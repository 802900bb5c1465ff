//! From an outbox to a compacted topic: what several services announce in the same way.
//!
//! Every value is whole (a deletion is a value, too), so of a batch only the newest one of each key is sent. Then nothing in a
//! batch has an order to keep, all of it may be on its way at once, and batches follow each other.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, Record, TopicSpec};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Records on their way at once, at most.
const IN_FLIGHT_MAX: usize = 256;
/// A compacted topic of whole values has one partition: everyone follows all of it.
const PARTITION: u32 = 0;
/// The wait before the topic is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Publishes on one compacted topic. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcer {
    bus: Bus,
    topic: TopicSpec,
}

impl Announcer {
    /// Will publish on `topic`; asks nothing of the bus yet.
    pub fn new(bus: Bus, topic: TopicSpec) -> Announcer {
        Announcer { bus, topic }
    }

    /// Makes the topic if it is not there, however long the bus is away.
    pub async fn make_topic(&self) {
        let mut said = false;
        while let Err(error) = self.bus.ensure_topic(&self.topic).await {
            // Once an outage: it is tried again twice a second.
            if !said {
                tracing::warn!(topic = self.topic.name, error = %error, "topic is not there yet");
            }
            said = true;
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Publishes keys with their values, given from the oldest to the newest, and returns once the bus has acknowledged them.
    /// Waits for as long as the bus is away; dropping the future is giving up.
    ///
    /// # Errors
    /// The bus refuses, or its state is unknown: all of it must be published again.
    pub async fn publish(
        &self,
        changes: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> anyhow::Result<()> {
        let name = self.topic.name;
        let sends = newest(changes).into_iter().map(|(key, value)| {
            let record = Record { key: Some(key.into()), headers: Vec::new(), value: value.into() };
            self.bus.produce(name, PARTITION, record)
        });
        let sent = stream::iter(sends)
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_for_each(|_offset| async { Ok(()) })
            .await;
        if let Err(bus::Error::Refused(_)) = sent {
            // A log that was set up anew has no topics; then the next attempt succeeds.
            self.bus.ensure_topic(&self.topic).await?;
        }
        sent.with_context(|| format!("publishing on {name}"))
    }
}

/// The last value of each key, in the order of those values.
fn newest(changes: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let changes: Vec<_> = changes.into_iter().collect();
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

    #[tokio::test]
    async fn a_topic_that_is_gone_is_made_again_for_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file:{}", folder.path().join("log").display());
        let bus = Bus::open(&uri, &mut prometheus_client::registry::Registry::default()).unwrap();
        let announcer = Announcer::new(bus.clone(), bus::topics::KEY_CHANGES);
        let changes = [(b"key".to_vec(), b"value".to_vec())];
        assert!(announcer.publish(changes.clone()).await.is_err());
        announcer.publish(changes).await.unwrap();
        assert_eq!(bus.end_offset(bus::topics::KEY_CHANGES.name, 0).await, Ok(1));
    }

    #[test]
    fn of_each_key_only_the_newest_value_is_sent() {
        let change = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let sent = newest([change("a", "1"), change("b", "1"), change("a", "2"), change("c", "1")]);
        assert_eq!(sent, [change("b", "1"), change("a", "2"), change("c", "1")]);
    }
}
