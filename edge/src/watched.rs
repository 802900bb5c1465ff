//! A file that is read again when it changes. What is being written to it in place is not read before it stays the same from one look
//! to the next.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;

/// What a file looked like: when it was changed, its length, and which file it was, since another may be moved into its place.
type Looks = (SystemTime, u64, u64);

/// The file, and how it was found last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    bytes_max: u64,
    /// What it looked like when it was last read.
    read: Option<Looks>,
    /// What it looked like when it was last looked at.
    seen: Option<Looks>,
}

impl WatchedFile {
    /// The file at a path, and what is in it.
    ///
    /// # Errors
    /// It can't be read, or has more bytes than that.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> anyhow::Result<(Self, Vec<u8>)> {
        let mut file = Self { path: path.to_owned(), bytes_max, read: None, seen: None };
        file.seen = file.looks();
        file.read = file.seen;
        let bytes = file.bytes()?;
        Ok((file, bytes))
    }

    /// What it is called in the log.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, if it was changed since it was last read, and not since it was last looked at.
    ///
    /// # Errors
    /// As of [`open`](Self::open). It is not read again until it changes.
    pub(crate) fn look(&mut self) -> Option<anyhow::Result<Vec<u8>>> {
        let seen = self.looks();
        let is_steady = seen == self.seen;
        self.seen = seen;
        if !is_steady || seen == self.read {
            return None;
        }
        let bytes = self.bytes();
        self.seen = self.looks();
        if self.seen != seen {
            // It was being written meanwhile.
            return None;
        }
        self.read = seen;
        Some(bytes)
    }

    fn looks(&self) -> Option<Looks> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let name = self.path.display();
        let mut bytes = Vec::new();
        let file = File::open(&self.path);
        // Not by its length, which may be another by now.
        file.and_then(|file| file.take(self.bytes_max + 1).read_to_end(&mut bytes))
            .with_context(|| format!("{name} can't be read"))?;
        let is_short = bytes.len() as u64 <= self.bytes_max;
        anyhow::ensure!(is_short, "{name} has more than {} bytes", self.bytes_max);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use stack::TemporaryFolder;

    #[test]
    fn a_file_that_is_being_written_is_not_gone_by() {
        const BYTES_MAX: usize = 64;
        let folder = TemporaryFolder::new().expect("a folder");
        let path = folder.path().join("file");
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("written");
        write(b"7");
        let (mut file, bytes) = WatchedFile::open(&path, BYTES_MAX as u64).expect("it is there");
        assert_eq!(bytes, b"7");
        assert!(file.look().is_none());
        write(b"");
        assert!(file.look().is_none(), "what is cut off would be something else");
        write(b"eleven");
        assert!(file.look().is_none());
        assert_eq!(file.look().expect("it stays so").expect("it is there"), b"eleven");
        assert!(file.look().is_none(), "it is read once");

        write(&[0; BYTES_MAX + 1]);
        assert!(file.look().is_none());
        let error = file.look().expect("it stays so").expect_err("it is too long");
        assert!(error.to_string().contains("more than"), "{error}");
        assert!(file.look().is_none(), "it is said once");
        write(&[0; BYTES_MAX]);
        assert!(file.look().is_none() && file.look().is_some_and(|bytes| bytes.is_ok()));
        std::fs::remove_file(&path).expect("removed");
        assert!(file.look().is_none() && file.look().is_some_and(|bytes| bytes.is_err()));
    }

    #[test]
    fn another_file_in_its_place_is_seen_though_it_looks_the_same() {
        let folder = TemporaryFolder::new().expect("a folder");
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let changed = SystemTime::UNIX_EPOCH;
        for (path, bytes) in [(&path, b"a"), (&other, b"b")] {
            std::fs::write(path, bytes).expect("written");
            let file = File::options().write(true).open(path).expect("it is there");
            file.set_modified(changed).expect("it is ours");
        }
        let (mut file, _) = WatchedFile::open(&path, 1).expect("it is there");
        std::fs::rename(&other, &path).expect("renamed");
        assert!(file.look().is_none());
        assert_eq!(file.look().expect("it stays so").expect("it is there"), b"b");
    }
}
