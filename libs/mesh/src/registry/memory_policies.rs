//! The policies of a registry in memory, kept in a file, if it is given one: a restart must not undo what an operator said.

use super::POLICY_REVISIONS_MAX;
use super::PolicyAppend;
use super::PolicyChange;
use super::PolicyEntry;
use super::PolicyHead;
use super::PolicyHistory;
use super::PolicyStore;
use super::Update;
use super::memory::CHANGES_MAX;
use super::memory::Changes;
use super::memory::Source;
use crate::file;
use anyhow::Context as _;
use anyhow::ensure;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::broadcast;

/// The version of the file's form.
const FORM: u32 = 1;
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub(super) struct MemoryPolicies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Option<PathBuf>,
    /// Held by the one who changes something, while it waits for the disk; who only reads does not.
    writing: Mutex<()>,
    state: Mutex<State>,
    changed: broadcast::Sender<(i64, Vec<PolicyChange>)>,
}

#[derive(Debug, Default)]
struct State {
    revision: i64,
    services: BTreeMap<String, Kept>,
}

/// One service's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    in_force: Option<String>,
    history: BTreeMap<i64, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    form: u32,
    services: BTreeMap<String, Kept>,
}

impl MemoryPolicies {
    pub(super) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let services = match file {
            None => BTreeMap::new(),
            // Going on without it would lift what it forbids, and the next change would overwrite it.
            Some(path) => read(path).with_context(|| {
                format!("the policies in {} can't be used; move the file away", path.display())
            })?,
        };
        Ok(Self(Arc::new(Shared {
            file: file.map(Path::to_owned),
            writing: Mutex::default(),
            state: Mutex::new(State { revision: 0, services }),
            changed: broadcast::channel(CHANGES_MAX).0,
        })))
    }
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Kept>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    ensure!(length <= FILE_BYTES_MAX, "it is larger than {FILE_BYTES_MAX} bytes");
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    ensure!(file.form == FORM, "it has form {}, not {FORM}", file.form);
    Ok(file.services)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file first: what watchers are told outlives the process.
    fn append(&self, change: PolicyAppend) -> anyhow::Result<bool> {
        let PolicyAppend { service, after, revision, value, in_force } = change;
        let value = String::from_utf8(value).context("a policy's value is text")?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = self.state().services.clone();
        let kept = services.entry(service.clone()).or_default();
        if kept.newest() != after {
            return Ok(false);
        }
        kept.history.insert(revision, value.clone());
        while kept.history.len() > POLICY_REVISIONS_MAX {
            kept.history.pop_first();
        }
        kept.in_force = in_force.then(|| value.clone());
        if let Some(path) = &self.file {
            let file = File { form: FORM, services };
            file::replace(path, &serde_json::to_vec(&file)?)
                .with_context(|| format!("writing {}", path.display()))?;
            services = file.services;
        }
        let mut state = self.state();
        state.services = services;
        state.revision += 1;
        let change = if in_force {
            PolicyChange::Put(PolicyEntry { service, value: value.into_bytes() })
        } else {
            PolicyChange::Delete { service }
        };
        // An error says that nobody watches.
        self.changed.send((state.revision, vec![change])).ok();
        Ok(true)
    }
}

impl State {
    fn in_force(&self) -> Vec<PolicyEntry> {
        let services = self.services.iter();
        let in_force = services.filter_map(|(service, kept)| {
            let value = kept.in_force.clone()?.into_bytes();
            Some(PolicyEntry { service: service.clone(), value })
        });
        in_force.collect()
    }
}

impl Kept {
    fn newest(&self) -> i64 {
        self.history.last_key_value().map_or(0, |(revision, _)| *revision)
    }
}

impl Source for MemoryPolicies {
    type Entry = PolicyEntry;
    type Change = PolicyChange;

    fn list(&self) -> (Changes<PolicyChange>, Update<PolicyEntry, PolicyChange>) {
        let state = self.0.state();
        let listed = Update::Listed { revision: state.revision, entries: state.in_force() };
        (self.0.changed.subscribe(), listed)
    }

    fn revision(&self) -> i64 {
        self.0.state().revision
    }
}

impl PolicyStore for MemoryPolicies {
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<PolicyEntry>>> {
        let in_force = self.0.state().in_force();
        Box::pin(std::future::ready(Ok(in_force)))
    }

    fn head(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHead>> {
        let kept = self.0.state().services.get(service).cloned().unwrap_or_default();
        let revision = kept.newest();
        let head = PolicyHead { current: kept.in_force.map(String::into_bytes), revision };
        Box::pin(std::future::ready(Ok(head)))
    }

    fn history(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHistory>> {
        let kept = self.0.state().services.get(service).cloned().unwrap_or_default();
        let newest_first = kept.history.into_iter().rev();
        let history = newest_first.map(|(revision, value)| (revision, value.into_bytes()));
        let history = history.collect();
        Box::pin(std::future::ready(Ok(history)))
    }

    fn append(&self, change: PolicyAppend) -> BoxFuture<'_, anyhow::Result<bool>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            // It waits for the disk.
            tokio::task::spawn_blocking(move || shared.append(change)).await?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(after: i64, text: &str) -> PolicyAppend {
        PolicyAppend {
            service: "links".to_owned(),
            after,
            revision: after + 1,
            value: text.as_bytes().to_vec(),
            in_force: true,
        }
    }

    #[tokio::test]
    async fn what_was_said_outlives_the_process_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh").join("policies.json");
        let policies = MemoryPolicies::open(Some(&path)).unwrap();
        assert!(policies.append(change(0, "one")).await.unwrap());
        assert!(policies.append(change(1, "two")).await.unwrap());
        assert!(!policies.append(change(1, "late")).await.unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let again = MemoryPolicies::open(Some(&path)).unwrap();
        let head = again.head("links").await.unwrap();
        assert_eq!(head, PolicyHead { current: Some(b"two".to_vec()), revision: 2 });
        assert_eq!(again.history("links").await.unwrap()[1], (1, b"one".to_vec()));
    }

    #[test]
    fn a_damaged_file_is_named_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.json");
        for text in ["", "{", r#"{"form":2,"services":{}}"#] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", MemoryPolicies::open(Some(&path)).unwrap_err());
            assert!(error.contains("policies.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
