//! Files that outlive the process: replaced as a whole, for their owner's eyes alone.

use anyhow::Context as _;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Who may read and write what is kept: its owner.
const MODE: u32 = 0o600;

/// Writes `bytes` under `path`, whose folder is made if need be. Whoever reads it sees the file before or this one, also after
/// the machine lost its power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("the path names no file")?;
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().context("the path names no file")?.to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The name is in the folder, which is a file of its own.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()?;
    Ok(())
}
