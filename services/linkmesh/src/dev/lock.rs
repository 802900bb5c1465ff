//! One `linkmesh dev` at a time on a folder: a lock that the system takes back however the process ends.

use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use anyhow::bail;

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on `folder`, kept in `file`.
    pub(super) fn take(file: &Path, folder: &Path) -> anyhow::Result<Lock> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file);
        let mut lock = opened.with_context(|| format!("opening {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).context("reading the lock")?;
                bail!(
                    "`linkmesh dev` already runs on {} (process {}): stop it with Ctrl-C in its terminal, or give this one \
                     another --folder",
                    folder.display(),
                    holder.trim(),
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Lock { _file: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let first = Lock::take(&file, folder.path()).unwrap();
        let refused = Lock::take(&file, folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        Lock::take(&file, folder.path()).unwrap();
    }
}
