//! Looks around beside the folding: makes the topic, notices new partitions, measures how far folding lags behind.
//!
//! It waits for the log, which may be away; the leases' heartbeat must not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::folder::Shared;
use super::folder::TOPIC;

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// How often until the topic is known.
const EVERY_AT_FIRST: Duration = Duration::from_millis(500);

/// Runs until told to stop. `known` becomes true when the topic's partitions have their rows.
pub async fn run(
    shared: Arc<Shared>,
    instance: String,
    known: watch::Sender<bool>,
    stop: CancellationToken,
) {
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = look(&shared, &instance, *known.borrow()) => outcome,
        };
        match outcome {
            Ok(()) => {
                known.send_if_modified(|known| !std::mem::replace(known, true));
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "can't look around"),
        }
        let wait = if *known.borrow() { EVERY } else { EVERY_AT_FIRST };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn look(shared: &Shared, instance: &str, known: bool) -> anyhow::Result<()> {
    let count = match shared.bus.partitions(TOPIC).await {
        Ok(count) if known => count,
        // Not made yet, or gone: a log that was set up anew has no topics.
        Ok(_) | Err(bus::Error::Refused(_)) => {
            shared.bus.ensure_topic(&bus::topics::LINK_EVENTS).await?;
            shared.bus.partitions(TOPIC).await?
        }
        Err(error) => return Err(error.into()),
    };
    shared.store.know_partitions(count).await?;
    let mut lag = 0;
    for view in shared.store.partitions().await? {
        if view.owner.as_deref() == Some(instance) {
            let end = shared.bus.end_offset(TOPIC, view.partition).await?;
            lag += (end - view.next_offset).max(0);
        }
    }
    // While the log is away, what was measured last stays.
    shared.metrics.lag.set(lag);
    Ok(())
}
