//! The policies' side of the port: values by service, their history, and a watch of them. What a value says is for
//! [`policy`](crate::policy) to judge: here it is bytes, since anyone may have written them.

use super::Update;
use super::Watch;
use crate::policy::PolicySet;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How many revisions of a service's policy are kept.
pub const POLICY_REVISIONS_MAX: usize = 50;

/// What is stored for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The service's name, as the key says it.
    pub service: String,
    /// What is stored.
    pub value: Vec<u8>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyChange {
    /// A value is new, or different.
    Put(PolicyEntry),
    /// There is none any more.
    Delete {
        /// The service's name.
        service: String,
    },
}

/// What an adapter reports to a watcher of policies.
pub(crate) type PolicyUpdates = Watch<PolicyEntry, PolicyChange>;
/// One of them.
pub(crate) type PolicyUpdate = Update<PolicyEntry, PolicyChange>;

/// What is stored for a service, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyHead {
    /// What is in force.
    pub current: Option<Vec<u8>>,
    /// The newest of its history; 0 if it has none.
    pub revision: i64,
}

/// A change of a service's policy: its history grows by one, and what is in force becomes the same, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAppend {
    /// The service's name.
    pub service: String,
    /// The newest of its history, as [`PolicyHead`] said it: the change is made only if it still is.
    pub after: i64,
    /// The new revision, above `after`.
    pub revision: i64,
    /// For the history.
    pub value: Vec<u8>,
    /// Whether that is in force from now on, or nothing is.
    pub in_force: bool,
}

/// Revisions and what was stored then.
pub type PolicyHistory = Vec<(i64, Vec<u8>)>;

/// Where policies are kept. Each operation happens wholly or not at all.
pub trait PolicyStore: fmt::Debug + Send + Sync {
    /// What is in force, by service.
    ///
    /// # Errors
    /// If the registry does not answer; also below.
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<PolicyEntry>>>;

    /// What is stored for one service.
    fn head(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHead>>;

    /// What was stored for it, newest first: the last [`POLICY_REVISIONS_MAX`].
    fn history(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHistory>>;

    /// Makes the change; false if someone else has made one since the head was read.
    fn append(&self, change: PolicyAppend) -> BoxFuture<'_, anyhow::Result<bool>>;
}

/// A watch of all policies; it ends when dropped.
///
/// Whoever is slow skips what was replaced meanwhile: however often policies change, each look is at the newest set.
#[derive(Debug)]
pub struct PolicyWatch {
    sets: watch::Receiver<Arc<PolicySet>>,
    _task: AbortOnDropHandle<()>,
}

impl PolicyWatch {
    /// What an adapter reports, as sets; `known` is what was known before.
    pub(crate) fn over(mut updates: PolicyUpdates, known: PolicySet) -> Self {
        let (sender, sets) = watch::channel(Arc::new(known.clone()));
        #[expect(clippy::disallowed_methods, reason = "the watch owns the task and ends it")]
        let task = tokio::spawn(async move {
            let mut set = known;
            while let Some(update) = updates.next().await {
                let is_news = set.take(update);
                let copy = Arc::new(set.clone());
                sender.send_if_modified(|sent| {
                    *sent = copy;
                    is_news
                });
            }
        });
        Self { sets, _task: AbortOnDropHandle::new(task) }
    }

    /// The newest set, once there is one that was not seen; none when the registry is gone for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<PolicySet>> {
        self.sets.changed().await.ok()?;
        Some(self.sets.borrow_and_update().clone())
    }

    /// The newest set, seen or not.
    #[must_use]
    pub fn newest(&self) -> Arc<PolicySet> {
        self.sets.borrow().clone()
    }
}
