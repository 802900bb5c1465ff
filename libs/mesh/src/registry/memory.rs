//! A registry in memory, for one process that runs everything.
//!
//! It behaves as the one in etcd: what a lease holds goes when the lease is dropped, and a watcher is told everything in
//! order. Only it can't be away.

use super::Attendance;
use super::Change;
use super::Entry;
use super::Instance;
use super::JoinTokenStore;
use super::Lease;
use super::Member;
use super::PolicyStore;
use super::PolicyWatch;
use super::Registration;
use super::Registry;
use super::UPDATES_MAX;
use super::Update;
use super::Watch;
use super::memory_callers::MemoryCallers;
use super::memory_join_tokens::MemoryJoinTokens;
use super::memory_policies::MemoryPolicies;
use crate::policy::PolicySet;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// How many changes a slow watcher may be behind before it is told everything anew.
pub(super) const CHANGES_MAX: usize = 1024;
/// How often a watcher hears that nothing changed.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct MemoryRegistry {
    shared: Arc<Shared>,
    policies: Arc<MemoryPolicies>,
    join_tokens: MemoryJoinTokens,
    callers: Arc<MemoryCallers>,
}

impl MemoryRegistry {
    /// A registry without instances, with the policies in the file, if there is one.
    pub(super) fn open(policies: Option<&Path>) -> anyhow::Result<Self> {
        let policies = Arc::new(MemoryPolicies::open(policies)?);
        let join_tokens = MemoryJoinTokens::default();
        Ok(Self { shared: Arc::default(), policies, join_tokens, callers: Arc::default() })
    }
}

/// Changes by the revision after them.
pub(super) type Changes<C> = broadcast::Receiver<(i64, Vec<C>)>;

/// What a watcher of a source is told.
type UpdateOf<S> = Update<<S as Source>::Entry, <S as Source>::Change>;

/// What a watcher is told from.
pub(super) trait Source: Send + Sync + 'static {
    type Entry: Clone + Send + Sync;
    type Change: Clone + Send + Sync;

    /// Everything there is, and what changes from then on.
    fn list(&self) -> (Changes<Self::Change>, UpdateOf<Self>);
    fn revision(&self) -> i64;
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: broadcast::Sender<(i64, Vec<Change>)>,
}

#[derive(Debug, Default)]
struct State {
    revision: i64,
    leases: u64,
    /// By gRPC service and instance, with the lease that holds it: as under etcd, a later registration under the same
    /// key takes it over.
    entries: BTreeMap<(String, String), (u64, Entry)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: broadcast::channel(CHANGES_MAX).0 }
    }
}

impl Shared {
    /// Applies `change` to the state and tells the watchers, under one lock: what they hear is what happened, in order.
    fn change(&self, change: impl FnOnce(&mut State) -> Vec<Change>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = change(&mut state);
        if changes.is_empty() {
            return;
        }
        state.revision += 1;
        // An error says that nobody watches.
        self.changed.send((state.revision, changes)).ok();
    }
}

impl Source for Shared {
    type Entry = Entry;
    type Change = Change;

    fn list(&self) -> (Changes<Change>, Update) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = state.entries.values().map(|(_, entry)| entry.clone()).collect();
        (self.changed.subscribe(), Update::Listed { revision: state.revision, entries })
    }

    fn revision(&self) -> i64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).revision
    }
}

impl Registry for MemoryRegistry {
    fn register(&self, registration: Registration) -> Box<dyn Lease> {
        let instance = Instance::new(&registration, Timestamp::now());
        let mut id = 0;
        self.shared.change(|state| {
            state.leases += 1;
            id = state.leases;
            let entries = registration.grpc_services.iter().map(|grpc_service| Entry {
                grpc_service: grpc_service.clone(),
                instance: instance.clone(),
            });
            entries.map(|entry| put(state, id, entry)).collect()
        });
        Box::new(MemoryLease { shared: Arc::clone(&self.shared), id })
    }

    fn watch(&self) -> Watch {
        watch(Arc::clone(&self.shared))
    }

    fn watch_policies(&self, known: PolicySet) -> PolicyWatch {
        PolicyWatch::over(watch(Arc::clone(&self.policies)), known)
    }

    fn policy_store(&self) -> Arc<dyn PolicyStore> {
        Arc::clone(&self.policies) as Arc<dyn PolicyStore>
    }

    fn attend(&self, service: &str, zone: &str) -> Attendance {
        self.callers.attend(service, zone)
    }

    fn join_tokens(&self) -> Arc<dyn JoinTokenStore> {
        Arc::new(self.join_tokens.clone())
    }

    fn diagnose(&self) -> BoxFuture<'_, Vec<Member>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn place(&self) -> String {
        super::MEMORY.to_owned()
    }
}

pub(super) fn watch<S: Source>(source: Arc<S>) -> Watch<S::Entry, S::Change> {
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    #[expect(clippy::disallowed_methods, reason = "the watch owns the task and ends it")]
    let task = tokio::spawn(async move {
        // An error says that the watch was dropped.
        report(&*source, &sender).await.ok();
    });
    Watch { updates, _task: AbortOnDropHandle::new(task) }
}

fn put(state: &mut State, lease: u64, entry: Entry) -> Change {
    let key = (entry.grpc_service.clone(), entry.instance.instance.clone());
    state.entries.insert(key, (lease, entry.clone()));
    Change::Put(entry)
}

async fn report<S: Source>(
    source: &S,
    sender: &mpsc::Sender<UpdateOf<S>>,
) -> Result<(), mpsc::error::SendError<UpdateOf<S>>> {
    let (mut changed, listed) = source.list();
    sender.send(listed).await?;
    loop {
        let update = match tokio::time::timeout(ALIVE_EVERY, changed.recv()).await {
            Err(_) => Update::Alive { revision: source.revision() },
            Ok(Ok((revision, changes))) => Update::Changed { revision, changes },
            Ok(Err(RecvError::Lagged(_))) => {
                let listed;
                (changed, listed) = source.list();
                listed
            }
            Ok(Err(RecvError::Closed)) => return Ok(()),
        };
        sender.send(update).await?;
    }
}

#[derive(Debug)]
struct MemoryLease {
    shared: Arc<Shared>,
    id: u64,
}

impl MemoryLease {
    fn mark(&self, draining: bool) {
        self.shared.change(|state| {
            let held = state.entries.values_mut().filter(|(lease, _)| *lease == self.id);
            let different = held.filter(|(_, entry)| entry.instance.draining != draining);
            different
                .map(|(_, entry)| {
                    entry.instance.draining = draining;
                    Change::Put(entry.clone())
                })
                .collect()
        });
    }
}

impl Lease for MemoryLease {
    fn drain(&mut self) -> BoxFuture<'_, bool> {
        self.mark(true);
        Box::pin(std::future::ready(true))
    }

    fn undrain(&mut self) -> BoxFuture<'_, bool> {
        self.mark(false);
        Box::pin(std::future::ready(true))
    }

    fn is_reached(&self) -> bool {
        true
    }

    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.mark(true);
        // Dropping it deletes what it holds.
        Box::pin(std::future::ready(()))
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.shared.change(|state| {
            let held: Vec<_> = state
                .entries
                .iter()
                .filter(|(_, (lease, _))| *lease == self.id)
                .map(|(key, _)| key.clone())
                .collect();
            held.into_iter()
                .map(|(grpc_service, instance)| {
                    let key = (grpc_service, instance);
                    state.entries.remove(&key);
                    Change::Delete { grpc_service: key.0, instance: key.1 }
                })
                .collect()
        });
    }
}
