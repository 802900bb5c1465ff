//! The cluster's folder: who runs, on which ports, and a lock so that two commands do not start the same member twice.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use stack::ProcessId;

use super::roster::Member;
use crate::Seed;

/// The folder, with what it says in memory.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) folder: PathBuf,
    pub(super) saved: Saved,
    /// Held by commands that start or stop; absent for those that only look.
    _lock: Option<File>,
}

/// What `cluster.json` holds. Passwords and a key are in it, so it is for its owner only.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    ports: BTreeMap<String, u16>,
    processes: BTreeMap<String, ProcessId>,
    /// URL of the primary, password included.
    pub(super) postgres: Option<String>,
    /// URL of the replica, password included.
    pub(super) replica: Option<String>,
    /// Where Postgres' data really are, which may be outside the folder.
    pub(super) postgres_folders: Vec<PathBuf>,
    pub(super) seed: Option<Seed>,
    /// How long certificates live, if it was said.
    #[serde(default)]
    pub(super) certificate_life: Option<String>,
}

const FILE: &str = "cluster.json";

impl Site {
    /// The cluster in `folder`, made if there is none, locked for this command.
    pub(super) fn open_or_create(folder: &Path) -> anyhow::Result<Self> {
        // Others may pass through: Postgres does, as its own user.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(folder)
            .with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))
            .context("opening the lock")?;
        lock.lock().context("waiting for another `linkmesh up`")?;
        let saved = Saved::read(&folder)?.unwrap_or_default();
        Ok(Self { folder, saved, _lock: Some(lock) })
    }

    /// The cluster in `folder`, locked for this command.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        ensure!(folder.join("lock").exists(), "nothing is up in {}", folder.display());
        Self::open_or_create(folder)
    }

    /// The cluster in `folder` as it is, while another command may be changing it.
    pub(super) fn look(folder: &Path) -> anyhow::Result<Self> {
        let saved = Saved::read(folder)?;
        let saved = saved.with_context(|| format!("nothing is up in {}", folder.display()))?;
        Ok(Self { folder: folder.canonicalize()?, saved, _lock: None })
    }

    /// The port of this name, chosen at the first call.
    pub(super) fn port(&mut self, name: &str) -> anyhow::Result<u16> {
        if let Some(port) = self.saved.ports.get(name) {
            return Ok(*port);
        }
        let port = stack::port::free()?;
        self.saved.ports.insert(name.to_owned(), port);
        self.save()?;
        Ok(port)
    }

    /// The port of this name, if one was chosen.
    pub(super) fn known_port(&self, name: &str) -> Option<u16> {
        self.saved.ports.get(name).copied()
    }

    /// The member's process, if it runs.
    pub(super) fn running(&self, member: Member) -> Option<ProcessId> {
        let process = self.saved.processes.get(&member.to_string())?;
        process.is_running().then_some(*process)
    }

    /// Notes the member's process, at once and on disk: whoever is killed now still leaves it findable.
    pub(super) fn started(&mut self, member: Member, process: ProcessId) -> anyhow::Result<()> {
        self.saved.processes.insert(member.to_string(), process);
        self.save()
    }

    /// The member's own folder, made if missing.
    pub(super) fn member_folder(&self, member: Member) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(member.to_string());
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&folder)
            .with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    pub(super) fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.saved).context("encoding the cluster")?;
        self.write_private(FILE, &text)
    }

    /// Replaces a file of the folder in one step, readable by its owner only.
    pub(super) fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!("{name}.new"));
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&fresh, &path));
        written.with_context(|| format!("writing {}", path.display()))
    }

    /// Removes the folder and what lies elsewhere on its behalf.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        for folder in self.saved.postgres_folders.iter().chain([&self.folder]) {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        Ok(())
    }
}

impl Saved {
    fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let saved = serde_json::from_str(&text);
        saved.map(Some).with_context(|| format!("reading {}", path.display()))
    }
}
