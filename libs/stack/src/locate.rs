//! Where the servers are: Debian's packages, and the folder into which `scripts/setup.sh` puts what Debian lacks.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

/// Names a folder to look in before the usual ones; `scripts/setup.sh` puts things there too.
pub const TOOLS_VARIABLE: &str = "LINKMESH_TOOLS";

/// The highest major version of Postgres that is looked for first.
const POSTGRES_NEWEST: u32 = 30;
const POSTGRES_OLDEST: u32 = 14;

/// A server's executable.
///
/// # Errors
/// It is not installed; the message says how to get it.
pub(crate) fn executable(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A shell without them in its path is common, and they are where servers live.
    let system = ["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| missing(name))
}

/// One of Postgres' programs. Debian keeps them out of the path, by version.
///
/// # Errors
/// It is not installed; the message says how to get it.
pub(crate) fn postgres(program: &str) -> anyhow::Result<PathBuf> {
    (POSTGRES_OLDEST..=POSTGRES_NEWEST)
        .rev()
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/{program}")))
        .find(|candidate| candidate.is_file())
        .map_or_else(|| executable(program), Ok)
}

/// The folder of Kafka's jars.
///
/// # Errors
/// It is not installed; the message says how to get it.
pub(crate) fn kafka_jars() -> anyhow::Result<PathBuf> {
    tool("kafka/libs").ok_or_else(|| missing("Kafka"))
}

/// The database that maps addresses to countries, in MaxMind's format, if it is installed.
pub fn country_database() -> Option<PathBuf> {
    tool("geo/country.mmdb")
}

/// Something that `scripts/setup.sh` installed, by its path within the tools folder.
pub fn tool(path: &str) -> Option<PathBuf> {
    // Only here, because tests start servers without any configuration file.
    let named = env::var_os(TOOLS_VARIABLE).map(PathBuf::from);
    let data_home = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let own = [data_home, home].into_iter().flatten().map(|folder| folder.join("linkmesh"));
    named
        .into_iter()
        .chain(own)
        .chain([PathBuf::from("/opt/linkmesh")])
        .filter(|folder| folder.as_os_str() != OsStr::new(""))
        .map(|folder| folder.join(path))
        .find(|candidate| candidate.exists())
}

fn missing(name: &str) -> anyhow::Error {
    anyhow!("{name} is not installed: run scripts/setup.sh test")
}
