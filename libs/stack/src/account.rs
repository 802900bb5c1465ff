//! The user that a server runs as: Postgres refuses to run as root, so root lends it an unprivileged account.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Tried in this order; the first comes with Debian's `postgresql`, the second with every system.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Where a server's data go when its user can't enter the folder that was asked for.
const ELSEWHERE: &str = "/var/lib/linkmesh";

/// An unprivileged user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Account {
    /// The account to switch to: none unless this process is root.
    ///
    /// # Errors
    /// This process is root and the machine has no unprivileged account.
    pub fn unprivileged() -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        for name in CANDIDATES {
            if let Some(account) = passwd.lines().find_map(|line| Self::parse(line, name)) {
                return Ok(Some(account));
            }
        }
        bail!("running as root, and none of the users {CANDIDATES:?} exists to run Postgres as")
    }

    fn parse(line: &str, wanted: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid })
    }

    /// `folder` if this account can reach it, else one of its own that is the same for the same `folder`. Created, and owned
    /// by the account.
    ///
    /// # Errors
    /// The folder can't be made or handed over.
    pub fn own_folder(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let asked = folder.canonicalize()?;
        let parents = asked.ancestors().skip(1);
        let chosen = match first_closed(parents, self) {
            None => asked,
            Some(_) => {
                // The path spelled out, so that one can see whose data these are.
                let name = asked.to_string_lossy().trim_start_matches('/').replace('/', "-");
                Path::new(ELSEWHERE).join(name)
            }
        };
        fs::create_dir_all(&chosen).with_context(|| format!("making {}", chosen.display()))?;
        fs::set_permissions(&chosen, fs::Permissions::from_mode(0o700))?;
        chown(&chosen, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to {}", chosen.display(), self.name))?;
        Ok(chosen)
    }
}

fn first_closed<'a>(
    mut folders: impl Iterator<Item = &'a Path>,
    account: &Account,
) -> Option<&'a Path> {
    folders.find(|folder| {
        let Ok(metadata) = fs::metadata(folder) else { return true };
        let entered_by = if metadata.uid() == account.uid { 0o100 } else { 0o001 };
        metadata.mode() & entered_by == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_from_its_own_line() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let account = Account::parse(line, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(Account::parse(line, "nobody"), None);
    }

    #[test]
    fn a_folder_below_a_private_one_is_closed_to_strangers() {
        let folder = crate::TemporaryFolder::new().unwrap();
        let home = folder.path().join("home");
        let data = home.join("clone/.data");
        fs::create_dir_all(&data).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 64_001, gid: 64_001 };
        assert_eq!(first_closed(data.ancestors().skip(1), &stranger), None);
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(first_closed(data.ancestors().skip(1), &stranger), Some(home.as_path()));
    }
}
