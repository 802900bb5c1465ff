//! The relay: what is in the outbox goes to its topics, in order, one relay at a time.

use bus::TopicSpec;
use bus::topics::{KEY_CHANGES, SESSION_ENDS, USER_CHANGES, USER_EVENTS};
use service::Task;
use service::relay::{Announcement, Announcer};

use crate::store::Store;

/// Where it goes.
const TOPICS: [TopicSpec; 4] = [KEY_CHANGES, USER_CHANGES, USER_EVENTS, SESSION_ENDS];

/// The task. It ends with what it was publishing still in the outbox.
pub(crate) fn task(store: Store, bus: bus::Bus) -> Task {
    Task::new("identity-relay", move |stop| async move {
        let announcer = Announcer::new(bus, &TOPICS);
        // Edges follow topics from before the first change, so they are made before there is one.
        if stop.run_until_cancelled(announcer.make_topics()).await.is_none() {
            return Ok(());
        }
        let publish = |changes: Vec<pg::outbox::Change>| {
            let announcer = announcer.clone();
            async move {
                let announcements = changes.into_iter().map(|change| Announcement {
                    topic: change.topic.into_owned(),
                    key: change.key,
                    value: change.value,
                });
                announcer.publish(announcements).await
            }
        };
        store.outbox.relay(store.database.clone(), stop.cancelled_owned(), publish).await;
        Ok(())
    })
}
