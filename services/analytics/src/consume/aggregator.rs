//! Shares the partitions out among the instances, and runs a [`Folder`] for each one that is this instance's.
//!
//! The sharing is only about work: two instances that both believe to hold a partition do no harm, because only one of
//! them has its epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::folder::Ended;
use super::folder::Folder;
use super::folder::Shared;
use crate::store;
use crate::store::fold::Epoch;

/// How often an instance says that it lives.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long its word holds; then others take what it held.
const LEASE: Duration = Duration::from_secs(3);
/// A beat that takes longer has failed.
const BEAT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long leaving may take, with a store that does not answer.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(3);

struct Held {
    epoch: Epoch,
    redrive: Arc<Notify>,
    stop: CancellationToken,
}

/// One instance's part in folding.
pub struct Aggregator {
    shared: Arc<Shared>,
    instance: String,
    session: Uuid,
    held: BTreeMap<u32, Held>,
    folders: JoinSet<(u32, Epoch, Ended)>,
}

impl std::fmt::Debug for Aggregator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Aggregator")
            .field("instance", &self.instance)
            .field("held", &self.held.keys())
            .finish_non_exhaustive()
    }
}

impl Aggregator {
    /// For the instance of this name. Two that bear one name share the work like any others.
    pub fn new(shared: Arc<Shared>, instance: &str) -> Aggregator {
        Aggregator {
            shared,
            instance: instance.to_owned(),
            session: Uuid::new_v4(),
            held: BTreeMap::new(),
            folders: JoinSet::new(),
        }
    }

    /// Takes its share and folds until told to stop; then gives everything up at once.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut began = false;
        let mut failing = false;
        loop {
            let beat = async {
                if !began {
                    self.shared.store.release_predecessor(&self.instance, self.session).await?;
                    began = true;
                }
                self.beat().await
            };
            match timeout(BEAT_WAIT_MAX, beat).await {
                Ok(Ok(())) => failing = false,
                outcome => {
                    if !failing {
                        tracing::warn!(
                            ?outcome,
                            "can't renew leases; folding goes on while epochs hold"
                        );
                    }
                    failing = true;
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.folders.join_next(), if !self.folders.is_empty() => {
                    self.settle(ended).await;
                }
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
        self.leave().await;
    }

    /// Renews what is held, gives up what is too much or was lost, takes what is missing to the share.
    async fn beat(&mut self) -> Result<(), store::Error> {
        let epochs: Vec<Epoch> = self.held.values().map(|held| held.epoch).collect();
        let beat = self.shared.store.beat(&self.instance, self.session, LEASE, &epochs).await?;
        for (partition, held) in &self.held {
            if !beat.held.contains(partition) {
                // Taken by another session or resumed by an operator: the folder's epoch is void.
                held.stop.cancel();
            } else if beat.requested.contains(partition) {
                held.redrive.notify_one();
            }
        }
        let surplus = self.held.len().saturating_sub(beat.share);
        // The highest numbers go first; which ones does not matter, as long as it is not all at random.
        for held in self.held.values().rev().take(surplus) {
            held.stop.cancel();
        }
        let wanted = beat.share.saturating_sub(self.held.len());
        if wanted > 0 {
            let taken = self.shared.store.take(&self.instance, self.session, LEASE, wanted).await?;
            for (partition, epoch) in taken {
                self.start(partition, epoch);
            }
        }
        self.shared.metrics.partitions.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn start(&mut self, partition: u32, epoch: Epoch) {
        if let Some(former) = self.held.remove(&partition) {
            former.stop.cancel();
        }
        let redrive = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let folder = Folder::new(Arc::clone(&self.shared), partition, epoch, Arc::clone(&redrive));
        let stopped = stop.clone();
        self.folders.spawn(async move { (partition, epoch, folder.run(stopped).await) });
        self.held.insert(partition, Held { epoch, redrive, stop });
    }

    /// A folder ended: its partition is given up, unless it was taken anew meanwhile.
    async fn settle(&mut self, ended: Result<(u32, Epoch, Ended), tokio::task::JoinError>) {
        let (partition, epoch, ended) = match ended {
            Ok(ended) => ended,
            // A panic is a bug: it must not look like an orderly end.
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        if self.held.get(&partition).is_some_and(|held| held.epoch == epoch) {
            self.held.remove(&partition);
        }
        if ended == Ended::Stopped {
            let release = self.shared.store.release(partition, epoch);
            if let Ok(Err(error)) = timeout(BEAT_WAIT_MAX, release).await {
                tracing::warn!(partition, %error, "can't release a partition; its lease runs out");
            }
        }
    }

    async fn leave(mut self) {
        self.held.values().for_each(|held| held.stop.cancel());
        while let Some(ended) = self.folders.join_next().await {
            if let Err(failed) = ended {
                tracing::error!(%failed, "a folder failed while stopping");
            }
        }
        self.shared.metrics.partitions.set(0);
        if timeout(LEAVE_WAIT_MAX, self.shared.store.leave(self.session)).await.is_err() {
            tracing::warn!("can't release partitions; their leases run out");
        }
    }
}
