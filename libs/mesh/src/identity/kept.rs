//! The file in which a process keeps its credentials over a restart, so that it needs nobody to start again.
//!
//! Key, certificates and roots are one file, replaced in one step, for its owner's eyes alone.

use super::Credentials;
use super::PeerIdentity;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rand::RngExt as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Where credentials are kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
}

impl Kept {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is kept for `peer` and can be used now; none if there is nothing. What can't be used is said in the log: others
    /// come in its place.
    pub(super) fn load(&self, peer: &PeerIdentity, now: Timestamp) -> Option<Credentials> {
        if !self.path.exists() {
            return None;
        }
        match self.read(peer, now) {
            Ok(credentials) => Some(credentials),
            Err(error) => {
                let (path, error) = (self.path.display(), format!("{error:#}"));
                tracing::warn!(%path, error, "kept credentials can't be used; getting new ones");
                None
            }
        }
    }

    fn read(&self, peer: &PeerIdentity, now: Timestamp) -> anyhow::Result<Credentials> {
        let metadata = fs::metadata(&self.path)?;
        let mode = metadata.permissions().mode();
        ensure!(mode & 0o077 == 0, "others may read the key (mode {:o})", mode & 0o777);
        ensure!(metadata.len() <= FILE_BYTES_MAX, "it has more than {FILE_BYTES_MAX} bytes");
        let credentials = Credentials::from_pem(&serde_json::from_slice(&fs::read(&self.path)?)?)?;
        ensure!(credentials.peer == *peer, "they are those of `{}`", credentials.peer);
        let not_after = credentials.validity.not_after;
        ensure!(now < not_after, "the certificate ran out at {not_after}");
        Ok(credentials)
    }

    /// Keeps these from now on.
    pub(super) fn store(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&credentials.pem())?;
        let nonce: u64 = rand::rng().random();
        let fresh = self.path.with_extension(format!("{nonce:016x}"));
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut open| {
                open.write_all(&text)?;
                open.sync_all()
            })
            .and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            // It may not be there; then there is nothing to remove.
            fs::remove_file(&fresh).ok();
        }
        written.with_context(|| format!("keeping credentials in {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::LocalAuthority;
    use std::time::Duration;

    #[test]
    fn what_is_kept_is_for_its_owner_alone_and_as_long_as_it_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(&folder.path().join("authority")).unwrap();
        let peer = PeerIdentity::service("links").unwrap();
        let now = Timestamp::now();
        let hour = Duration::from_secs(3600);
        let issued = authority.issue_to(&peer, hour, now).unwrap();
        let path = folder.path().join("identity.json");
        let kept = Kept::new(path.clone());
        assert!(kept.load(&peer, now).is_none());
        kept.store(&issued).unwrap();
        kept.store(&issued).unwrap();

        let loaded = kept.load(&peer, now).unwrap();
        assert_eq!((loaded.chain, loaded.roots), (issued.chain, issued.roots));
        assert_eq!(loaded.key, issued.key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");

        assert!(kept.load(&PeerIdentity::service("edge").unwrap(), now).is_none());
        assert!(kept.load(&peer, now + 2 * hour).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(kept.load(&peer, now).is_none(), "whoever read the key could use it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(kept.load(&peer, now).is_none());
    }
}
