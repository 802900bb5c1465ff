//! The relay: committed changes of links go from the outbox to the topic `link-changes`, in order, one relay at a time.

use service::Task;
use service::relay::Announcer;

use crate::store::Store;

/// The task. It ends with what it was publishing still in the outbox.
pub(crate) fn task(store: Store, bus: bus::Bus) -> Task {
    Task::new("links-relay", move |stop| async move {
        let announcer = Announcer::new(bus, bus::topics::LINK_CHANGES);
        // Edges follow the topic from before the first change, so it is made before there is one.
        if stop.run_until_cancelled(announcer.make_topic()).await.is_none() {
            return Ok(());
        }
        let publish = |changes: Vec<pg::outbox::Change>| {
            let announcer = announcer.clone();
            async move {
                let pairs = changes.into_iter().map(|change| (change.key, change.value));
                announcer.publish(pairs).await
            }
        };
        store.outbox.relay(store.database.clone(), stop.cancelled_owned(), publish).await;
        Ok(())
    })
}
