//! The disk as the spool's writer sees it: a port, so that tests can make it fail.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Where segments are made.
pub(crate) trait Disk: Send + Sync + std::fmt::Debug {
    /// A new, empty file; an error if it exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A segment that is being written.
pub(crate) trait SegmentFile: Send + Sync + std::fmt::Debug {
    /// One write(2) at the end of the file, which may be short.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes the file this long, which is never longer than it is.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// Makes durable what was appended.
    fn sync(&self) -> io::Result<()>;
}

/// The disk itself.
#[derive(Debug)]
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

#[derive(Debug)]
struct LocalFile(File);

impl SegmentFile for LocalFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.0).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
