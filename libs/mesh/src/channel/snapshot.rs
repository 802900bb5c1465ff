//! What was last known, in a file: for a process that starts while the registry is away.

use crate::registry::Entry;
use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;

/// The version of the file's form. A file of another one is not used: the registry will tell.
const FORM: u32 = 1;
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    form: u32,
    entries: Vec<Entry>,
}

/// What the file says; nothing if there is none, or it can't be read, which the log says.
pub(super) fn read(path: &Path) -> Vec<Entry> {
    match try_read(path) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                error = format!("{error:#}"),
                "the mesh's snapshot is not used"
            );
            Vec::new()
        }
    }
}

fn try_read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    anyhow::ensure!(metadata.len() <= FILE_BYTES_MAX, "it is larger than {FILE_BYTES_MAX} bytes");
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    anyhow::ensure!(file.form == FORM, "it has form {}, not {FORM}", file.form);
    Ok(file.entries)
}

/// Replaces the file as a whole: whoever reads it sees the one before or this one.
pub(super) fn write(path: &Path, entries: Vec<Entry>) -> anyhow::Result<()> {
    let folder = path.parent().context("the snapshot's path names no file")?;
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&File { form: FORM, entries })?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_missing_file_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh").join("snapshot.json");
        assert!(try_read(&path).unwrap().is_empty());
        write(&path, Vec::new()).unwrap();
        assert!(try_read(&path).unwrap().is_empty());
        for text in ["", "{", r#"{"form":2,"entries":[]}"#, r#"{"form":1,"entries":[{}]}"#] {
            fs::write(&path, text).unwrap();
            assert!(try_read(&path).is_err(), "{text}");
            assert!(read(&path).is_empty());
        }
    }
}
