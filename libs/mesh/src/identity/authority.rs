//! A certificate authority in a folder: what issues identities until a control service does.
//!
//! Key and root are one file, so that no process ever sees one without the other; it is created once, however many
//! processes start at the same moment.

use super::Credentials;
use super::Identity;
use super::OPERATOR;
use super::PeerIdentity;
use super::Role;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

/// Key and root, readable by their owner alone.
const AUTHORITY_FILE: &str = "authority.pem";
/// The root alone, for foreign clients; may be read by anyone.
const ROOT_FILE: &str = "root.pem";
/// How long a root is valid.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a leaf is valid. A leaf is issued at every start, and nothing renews it within a process's life, so it
/// outlives any process; short-lived leaves that rotate come with a control service that issues them.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How far a peer's clock may be behind.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(3600);

/// A root key and certificate kept in a folder.
pub struct LocalAuthority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalAuthority").finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// Opens the authority of a folder, and makes both if there is none.
    ///
    /// # Errors
    /// If the folder can't be read or written, or others than the key's owner and group may read it.
    pub fn open_or_create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(AUTHORITY_FILE);
        if !path.exists() {
            create(folder, &path, Timestamp::now()).with_context(|| {
                format!("creating the certificate authority {}", path.display())
            })?;
        }
        Self::open(&path)
            .with_context(|| format!("opening the certificate authority {}", path.display()))
    }

    fn open(path: &Path) -> anyhow::Result<Self> {
        let mode = fs::metadata(path)?.permissions().mode();
        // The group may read it: that is how Kubernetes hands a Secret to a pod that does not run as root.
        ensure!(
            mode & 0o027 == 0,
            "others may read or change the key (mode {:o}): run chmod 600 on it, and replace it if it may have been read",
            mode & 0o777
        );
        let text = fs::read(path)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).context("it holds no PKCS#8 key")?;
        let root = CertificateDer::from_pem_slice(&text).context("it holds no certificate")?;
        let key = KeyPair::try_from(&key).context("its key can't be used")?;
        let issuer = Issuer::from_ca_cert_der(&root, key).context("its certificate can't issue")?;
        Ok(Self { root, issuer })
    }

    /// Issues an identity for a service, or for an operator who may do everything ([`OPERATOR`]), with a fresh key.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn issue(&self, service: &str) -> anyhow::Result<Identity> {
        let peer = match service {
            OPERATOR => PeerIdentity::operator(Role::Admin),
            _ => PeerIdentity::service(service)?,
        };
        let key = KeyPair::generate().context("making a key")?;
        let certificate = leaf(&peer, Timestamp::now())?
            .signed_by(&key, &self.issuer)
            .context("signing a certificate")?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let chain = vec![certificate.der().clone()];
        Identity::new(Credentials::new(key, chain, vec![self.root.clone()])?)
    }

    /// The file that holds the root alone, as PEM: what a stock client is given.
    #[must_use]
    pub fn root_file(folder: &Path) -> PathBuf {
        folder.join(ROOT_FILE)
    }
}

fn create(folder: &Path, path: &Path, now: Timestamp) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let key = KeyPair::generate()?;
    let root = root(now)?.self_signed(&key)?;

    let nonce: u64 = rand::rng().random();
    let temporary = folder.join(format!("{AUTHORITY_FILE}.{nonce:016x}"));
    write_synced(&temporary, 0o600, &format!("{}{}", key.serialize_pem(), root.pem()))?;
    // A link, unlike a rename, fails if someone else was first; then theirs is the authority.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error.into()),
    }

    let temporary = folder.join(format!("{ROOT_FILE}.{nonce:016x}"));
    write_synced(&temporary, 0o644, &root.pem())?;
    fs::rename(&temporary, folder.join(ROOT_FILE))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn write_synced(path: &PathBuf, mode: u32, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn root(now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "linkmesh local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, ROOT_LIFE);
    Ok(params)
}

fn leaf(peer: &PeerIdentity, now: Timestamp) -> anyhow::Result<CertificateParams> {
    let spiffe_id = peer.spiffe_id().context("a certificate names someone")?;
    // An operator is called by nobody.
    let is_service = peer.role == Role::Service;
    let dns_names = if is_service { vec![peer.service.dns_name()] } else { Vec::new() };
    let mut params = CertificateParams::new(dns_names)?;
    params.subject_alt_names.push(SanType::URI(spiffe_id.try_into()?));
    params.distinguished_name.push(DnType::CommonName, peer.to_string());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if is_service {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, LEAF_LIFE);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let now = SystemTime::from(now);
    params.not_before = (now - CLOCK_SKEW_MAX).into();
    params.not_after = (now + life).into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    #[test]
    fn processes_that_start_at_once_share_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("authority");
        let roots: HashSet<Vec<u8>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| LocalAuthority::open_or_create(&folder).unwrap().root))
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
    fn a_leaf_names_its_service() {
        let peer = PeerIdentity::service("links").unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = leaf(&peer, Timestamp::now()).unwrap().self_signed(&key).unwrap();
        assert_eq!(PeerIdentity::of_certificate(leaf.der()).unwrap(), peer);
    }
}
