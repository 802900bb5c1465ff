//! The limits of an edge on somebody's own machine: a file that is there to be changed.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// What it is called.
pub(crate) const FILE: &str = "limits.toml";
/// All load comes from one machine, mostly with a key of the lowest tier: it is let through. The other tiers are as everywhere.
const TEXT: &str = "\
# Read again when it changes. What is not here has its default: take a number out to see what others are held to.
[tiers]
free = 10000000
[addresses]
minute = 10000000
[redirects]
second = 10000000
[services.identity]
minute = 10000000
hour = 10000000
";

/// Writes the file, unless there is one: whatever somebody wrote there stays.
pub(crate) fn write_missing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::write(path, TEXT).with_context(|| format!("writing {}", path.display()))
}
