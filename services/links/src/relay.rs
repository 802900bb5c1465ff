//! The relay: committed changes of links go from the outbox to the topic `link-changes`, in order, one relay at a time.

use service::Task;
use service::relay::{Announcement, Announcer};

use crate::store::Store;

/// The task. It ends with what it was publishing still in the outbox.
pub(crate) fn task(store: Store, bus: bus::Bus) -> Task {
    Task::new("links-relay", move |stop| async move {
        let announcer = Announcer::new(bus, &[bus::topics::LINK_CHANGES]);
        // Edges follow the topic from before the first change, so it is made before there is one.
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
