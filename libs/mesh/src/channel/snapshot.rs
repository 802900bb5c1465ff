//! What was last known, in a file: for a process that starts while the registry is away.

use crate::file;
use crate::policy::KeptPolicy;
use crate::registry::Entry;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;

/// The version of the file's form. A file of another one is not used: the registry will tell.
const FORM: u32 = 1;
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What is written down.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    form: u32,
    pub(super) entries: Vec<Entry>,
    /// The policies that were in force; files of before there were any have none.
    #[serde(default)]
    pub(super) policies: Vec<KeptPolicy>,
}

impl Snapshot {
    pub(super) fn new(entries: Vec<Entry>, policies: Vec<KeptPolicy>) -> Self {
        Self { form: FORM, entries, policies }
    }
}

/// What the file says; nothing if there is none, or it can't be read, which the log says.
pub(super) fn read(path: &Path) -> Snapshot {
    match try_read(path) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                error = format!("{error:#}"),
                "the mesh's snapshot is not used"
            );
            Snapshot::default()
        }
    }
}

fn try_read(path: &Path) -> anyhow::Result<Snapshot> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Snapshot::default()),
        Err(error) => return Err(error.into()),
    };
    anyhow::ensure!(metadata.len() <= FILE_BYTES_MAX, "it is larger than {FILE_BYTES_MAX} bytes");
    let file: Snapshot = serde_json::from_slice(&fs::read(path)?)?;
    anyhow::ensure!(file.form == FORM, "it has form {}, not {FORM}", file.form);
    Ok(file)
}

/// Replaces the file as a whole: whoever reads it sees the one before or this one.
pub(super) fn write(path: &Path, snapshot: &Snapshot) -> anyhow::Result<()> {
    file::replace(path, &serde_json::to_vec(snapshot)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_missing_file_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh").join("snapshot.json");
        assert_eq!(try_read(&path).unwrap(), Snapshot::default());
        write(&path, &Snapshot::new(Vec::new(), Vec::new())).unwrap();
        assert!(try_read(&path).unwrap().entries.is_empty());
        fs::write(&path, r#"{"form":1,"entries":[]}"#).unwrap();
        assert!(try_read(&path).unwrap().policies.is_empty(), "as it was before policies");
        for text in ["", "{", r#"{"form":2,"entries":[]}"#, r#"{"form":1,"entries":[{}]}"#] {
            fs::write(&path, text).unwrap();
            assert!(try_read(&path).is_err(), "{text}");
            assert_eq!(read(&path), Snapshot::default());
        }
    }
}
