//! A watcher that keeps what it is told, as text.

use crate::backend::spawn;
use crate::world::eventually;
use mesh::Registry;
use mesh::registry::Change;
use mesh::registry::Entry;
use mesh::registry::Update;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::task::AbortHandle;

#[derive(Debug, Default)]
struct Told {
    entries: BTreeMap<String, Entry>,
    history: Vec<String>,
    revision: i64,
}

pub(crate) struct Following {
    told: Arc<Mutex<Told>>,
    task: AbortHandle,
}

fn key(grpc_service: &str, instance: &str) -> String {
    format!("{grpc_service} on {instance}")
}

impl Told {
    fn take(&mut self, update: Update) {
        match update {
            Update::Alive { revision } => self.revision = revision,
            Update::Listed { revision, entries } => {
                self.revision = revision;
                self.history.push("listed".to_owned());
                self.entries = entries
                    .into_iter()
                    .map(|entry| (key(&entry.grpc_service, &entry.instance.instance), entry))
                    .collect();
            }
            Update::Changed { revision, changes } => {
                assert!(!changes.is_empty(), "a change changes something");
                self.revision = revision;
                for change in changes {
                    self.change(change);
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put(entry) => {
                let key = key(&entry.grpc_service, &entry.instance.instance);
                let how = if entry.instance.draining { "drains" } else { "serves" };
                self.history.push(format!("{key} {how}"));
                self.entries.insert(key, entry);
            }
            Change::Delete { grpc_service, instance } => {
                let key = key(&grpc_service, &instance);
                self.history.push(format!("{key} is gone"));
                self.entries.remove(&key);
            }
        }
    }
}

impl Following {
    pub(crate) fn start(registry: &Arc<dyn Registry>) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let mut watch = registry.watch();
        let keeps = Arc::clone(&told);
        let task = spawn(async move {
            while let Some(update) = watch.next().await {
                keeps.lock().unwrap_or_else(PoisonError::into_inner).take(update);
            }
        });
        Self { told, task: task.abort_handle() }
    }

    fn told<T>(&self, of: impl Fn(&Told) -> T) -> T {
        of(&self.told.lock().unwrap())
    }

    pub(crate) fn history(&self) -> Vec<String> {
        self.told(|told| told.history.clone())
    }

    pub(crate) fn revision(&self) -> i64 {
        self.told(|told| told.revision)
    }

    /// The addresses of the instances that serve `grpc_service`, without those that drain.
    pub(crate) fn addresses(&self, grpc_service: &str) -> Vec<String> {
        self.told(|told| {
            let serving = told.entries.values().filter(|entry| !entry.instance.draining);
            let serving = serving.filter(|entry| entry.grpc_service == grpc_service);
            serving.map(|entry| entry.instance.address.clone()).collect()
        })
    }

    pub(crate) async fn until_listed(&self) {
        eventually("a list", || async { !self.history().is_empty() }).await;
    }

    pub(crate) async fn until_addresses(&self, grpc_service: &str, addresses: &[&str]) {
        let what = format!("{grpc_service} at {addresses:?}");
        eventually(&what, || async { self.addresses(grpc_service) == addresses }).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}
