//! A folder for a test's servers that goes when its owner goes, even if that is a process that was killed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

use crate::launcher;

/// Waits until its input ends, which happens when the owner drops the pipe or dies. Servers bound to the owner are
/// ending in the same moment, so the first attempt to remove their folder may meet a file that was just written.
const JANITOR: &str = r#"cat >/dev/null
folder=$0
[ $# -eq 0 ] || "$@" >/dev/null 2>&1
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$folder" 2>/dev/null && exit 0
  sleep 0.2
done"#;

/// A new, empty folder, removed with everything in it when this value is dropped or this process ends.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    janitor: Child,
    pipe: Option<ChildStdin>,
}

impl TemporaryFolder {
    /// Under the system's temporary folder; other users may pass through, not list.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> anyhow::Result<Self> {
        Self::with_farewell(|_| Vec::new())
    }

    /// As [`Self::new`], and the command that `farewell` makes of the folder's path runs before it is removed: for
    /// servers that are not bound to this process.
    ///
    /// # Errors
    /// It can't be made.
    pub fn with_farewell(farewell: impl FnOnce(&Path) -> Vec<OsString>) -> anyhow::Result<Self> {
        let path = base().join(format!("linkmesh-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", JANITOR]).arg(&path).args(farewell(&path));
        command.current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut janitor = launcher::spawn(command)?;
        let pipe = janitor.stdin.take();
        Ok(Self { path, janitor, pipe })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.janitor.wait().ok();
    }
}

/// A temporary folder in a private home would be closed to the user that Postgres runs as.
fn base() -> PathBuf {
    let asked = std::env::temp_dir();
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if asked.ancestors().all(open) { asked } else { PathBuf::from("/tmp") }
}
