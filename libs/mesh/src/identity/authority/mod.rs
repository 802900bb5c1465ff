//! A certificate authority in a folder: what issues identities by itself (`file:`), and what control issues with.

mod certificate;
mod files;
mod rotation;
mod signer;

pub use certificate::CLOCK_SKEW_MAX;
pub use rotation::Rotation;
pub use signer::Signer;

use super::CertificateRequest;
use super::Credentials;
use super::Fingerprint;
use super::Identity;
use super::NewKey;
use super::OPERATOR;
use super::PeerIdentity;
use super::Role;
use anyhow::Context as _;
use files::AUTHORITY_FILE;
use files::Contents;
use files::ROOT_FILE;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// How long a leaf is valid unless someone says otherwise; a day, as everywhere.
pub const LEAF_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// The authority of a folder, as it was when it was read.
pub struct LocalAuthority {
    contents: Contents,
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signer = &self.contents.signer;
        formatter.debug_struct("LocalAuthority").field("signer", signer).finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// Opens the authority of a folder, and makes one if there is none.
    ///
    /// # Errors
    /// If the folder can't be read or written, or others than the key's owner and group may read it.
    pub fn open_or_create(folder: &Path) -> anyhow::Result<Self> {
        if !folder.join(AUTHORITY_FILE).try_exists()? {
            files::create(folder, Timestamp::now()).with_context(|| {
                format!("creating the certificate authority in {}", folder.display())
            })?;
        }
        Self::open(folder)
    }

    /// Opens the authority of a folder.
    ///
    /// # Errors
    /// If there is none, or it can't be read, or others than the key's owner and group may read it.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let contents = files::read(folder).with_context(|| {
            format!("opening the certificate authority in {}", folder.display())
        })?;
        Ok(Self { contents })
    }

    /// Issues an identity for a service, or for an operator who may do everything ([`OPERATOR`]), for a day.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn issue(&self, service: &str) -> anyhow::Result<Identity> {
        let peer = match service {
            OPERATOR => PeerIdentity::operator(Role::Admin),
            _ => PeerIdentity::service(service)?,
        };
        Identity::new(self.issue_to(&peer, LEAF_LIFE_DEFAULT, Timestamp::now())?)
    }

    /// Issues credentials with a fresh key.
    ///
    /// # Errors
    /// If the authority's own certificate has run out.
    pub fn issue_to(
        &self,
        peer: &PeerIdentity,
        life: Duration,
        now: Timestamp,
    ) -> anyhow::Result<Credentials> {
        let key = NewKey::generate()?;
        let request = CertificateRequest::parse(&key.request)?;
        let chain = self.contents.signer.sign(&request, peer, life, now)?;
        Credentials::new(key.key, chain, self.contents.roots.clone())
    }

    /// What issues.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.contents.signer
    }

    /// What issues, apart from the folder.
    #[must_use]
    pub fn into_signer(self) -> Signer {
        self.contents.signer
    }

    /// What is to be trusted; the root that issues first.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.contents.roots
    }

    /// Differs if anything in the folder does.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.contents.fingerprint
    }

    /// The file that holds the trusted roots alone, as PEM: what a stock client is given.
    #[must_use]
    pub fn root_file(folder: &Path) -> PathBuf {
        folder.join(ROOT_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Validity;
    use rustls::pki_types::pem::PemObject as _;
    use std::collections::HashSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    #[test]
    fn processes_that_start_at_once_share_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("authority");
        let roots: HashSet<Vec<u8>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        LocalAuthority::open_or_create(&folder).unwrap().roots()[0].clone()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().to_vec()).collect()
        });
        assert_eq!(roots.len(), 1);
        let mode = fs::metadata(folder.join(AUTHORITY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        LocalAuthority::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(AUTHORITY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = LocalAuthority::open_or_create(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        LocalAuthority::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(AUTHORITY_FILE);
        fs::write(&path, "-----BEGIN").unwrap();
        let error = LocalAuthority::open_or_create(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains(AUTHORITY_FILE), "{error:#}");
        assert_eq!(fs::read(&path).unwrap(), b"-----BEGIN");
    }

    #[test]
    fn an_intermediate_issues_in_the_name_of_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(folder.path()).unwrap();
        let now = Timestamp::now();
        let day = Duration::from_secs(24 * 3600);
        let signer = authority.signer().delegate(now, day).unwrap();
        assert_eq!(signer.root(), authority.signer().root());
        let key = NewKey::generate().unwrap();
        let request = CertificateRequest::parse(&key.request).unwrap();
        let peer = PeerIdentity::service("links").unwrap();
        let chain = signer.sign(&request, &peer, 30 * day, now).unwrap();
        assert_eq!(chain.len(), 2, "the root is the reader's own");
        assert_eq!(PeerIdentity::of_certificate(&chain[0]).unwrap(), peer);
        // It does not outlive who issued it.
        let life = Validity::of_certificate(&chain[0]).unwrap();
        assert_eq!(life.not_after, signer.not_after());
        assert!(signer.delegate(now, day).is_err(), "one level is all there is");
        let late = now + 2 * day;
        assert!(signer.sign(&request, &peer, day, late).is_err());
    }

    #[test]
    fn a_root_is_replaced_without_a_moment_at_which_either_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let first = LocalAuthority::open_or_create(folder).unwrap();
        assert_eq!(Rotation::of(folder).unwrap(), Rotation::Settled);
        assert!(Rotation::activate(folder).is_err());
        assert!(Rotation::finish(folder).is_err());

        let next = Rotation::prepare(folder, Timestamp::now()).unwrap();
        let both = LocalAuthority::open(folder).unwrap();
        assert_eq!(both.signer().root(), first.signer().root());
        assert_eq!(both.roots().len(), 2);
        assert!(Rotation::prepare(folder, Timestamp::now()).is_err());

        Rotation::activate(folder).unwrap();
        let activated = LocalAuthority::open(folder).unwrap();
        assert_eq!(activated.signer().root(), next);
        assert_eq!(activated.roots().len(), 2);
        assert_eq!(
            Rotation::of(folder).unwrap(),
            Rotation::Activated { previous: first.signer().root() }
        );

        Rotation::finish(folder).unwrap();
        let finished = LocalAuthority::open(folder).unwrap();
        assert_eq!(finished.roots().len(), 1);
        assert_eq!(Fingerprint::of(&finished.roots()[0]), next);
        let published = fs::read(LocalAuthority::root_file(folder)).unwrap();
        assert_eq!(CertificateDer::from_pem_slice(&published).unwrap(), finished.roots()[0]);
        let mode = fs::metadata(folder.join(AUTHORITY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_root_may_be_kept_elsewhere() {
        let (offline, online) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = LocalAuthority::open_or_create(offline.path()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let now = Timestamp::now();
        let day = Duration::from_secs(24 * 3600);
        let certificate = root.signer().delegate_to(&key, now, day).unwrap();
        let text = format!(
            "{}{}",
            key.serialize_pem(),
            crate::identity::pem::encode("CERTIFICATE", &certificate)
        );
        files::replace(online.path(), AUTHORITY_FILE, 0o600, &text).unwrap();
        let error = LocalAuthority::open(online.path()).unwrap_err();
        assert!(format!("{error:#}").contains(ROOT_FILE), "{error:#}");
        fs::copy(offline.path().join(ROOT_FILE), online.path().join(ROOT_FILE)).unwrap();
        let authority = LocalAuthority::open(online.path()).unwrap();
        assert_eq!(authority.signer().root(), root.signer().root());
        authority.issue("links").unwrap();
        let error = Rotation::prepare(online.path(), now).unwrap_err();
        assert!(error.to_string().contains(ROOT_FILE), "{error}");
    }
}
