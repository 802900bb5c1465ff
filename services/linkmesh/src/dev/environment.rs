//! `dev.env`: where everything is and the API key's secret, for shells to source and for the operator's commands.

use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::Site;
use super::ports::Ports;
use super::settings::LINK_DOMAIN;
use crate::seed::Seed;

/// Its name in the folder.
pub(super) const FILE: &str = "dev.env";

/// What it says.
pub(super) struct DevEnvironment<'a> {
    pub(super) seed: &'a Seed,
    pub(super) ports: &'a Ports,
    pub(super) admin: SocketAddr,
    pub(super) site: &'a Site,
}

impl DevEnvironment<'_> {
    /// Where clients on this machine connect.
    pub(super) fn edge(&self) -> String {
        let listen = self.ports.listen;
        match listen.ip().is_unspecified() {
            true => format!("127.0.0.1:{}", listen.port()),
            false => listen.to_string(),
        }
    }

    /// Writes the file, readable by its owner alone, and in one step: a reader never sees half of it.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let path = self.site.folder.join(FILE);
        let fresh = self.site.folder.join(format!("{FILE}.new"));
        // One that was left behind may have been made by someone else, with another mode.
        if fresh.exists() {
            fs::remove_file(&fresh)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .with_context(|| format!("writing {}", fresh.display()))?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path).with_context(|| format!("writing {}", path.display()))
    }

    fn text(&self) -> String {
        let (edge, ports) = (self.edge(), self.ports);
        let values = [
            ("URL", format!("http://{edge}")),
            ("GRPC", edge),
            ("API_KEY", self.seed.api_key.clone()),
            ("WORKSPACE", self.seed.workspace.clone()),
            ("LINK_DOMAIN", LINK_DOMAIN.to_owned()),
            ("ADMIN", format!("http://{}", self.admin)),
            ("AUTHORITY", self.site.authority().display().to_string()),
            ("PORT_CONTROL", ports.control.to_string()),
            ("PORT_IDENTITY", ports.identity.to_string()),
            ("PORT_LINKS", ports.links.to_string()),
            ("PORT_ANALYTICS", ports.analytics.to_string()),
        ];
        let lines =
            values.map(|(name, value)| format!("export LINKMESH_{name}={}\n", quoted(&value)));
        format!("# Written by `linkmesh dev`; to be sourced.\n{}", lines.concat())
    }
}

/// For a shell: a path may have anything in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads what such a file says, if it is there: lines of `export NAME='VALUE'`; others are passed over.
pub(crate) fn read(file: &Path) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).ok()?;
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        let value = value.strip_prefix('\'')?.strip_suffix('\'')?;
        Some((name.to_owned(), value.replace(r"'\''", "'")))
    });
    Some(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dev.env");
        let path = "/home/o'brien/$HOME `x`";
        fs::write(&file, format!("# words\nexport A={}\nB=1\nexport C=''\n", quoted(path)))
            .unwrap();
        let values = [("A".to_owned(), path.to_owned()), ("C".to_owned(), String::new())];
        assert_eq!(read(&file).unwrap(), values.into());
        assert_eq!(read(&folder.path().join("missing")), None);
    }
}
