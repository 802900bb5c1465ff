//! The folder of an authority, and what is in it.
//!
//! `authority.pem` (the key that issues, and its certificate) is one file, so that no process ever sees one without the other;
//! it is created once, however many processes start at the same moment. `next.pem` and `previous.pem` are there while the
//! authority rotates. `root.pem` is for foreign clients, or, when the root's key is kept elsewhere, what is to be trusted.

use super::certificate;
use super::signer::Signer;
use crate::identity::Fingerprint;
use crate::identity::ROOTS_MAX;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// The key that issues and its certificate, readable by their owner alone.
pub(super) const AUTHORITY_FILE: &str = "authority.pem";
/// A root, with its key, that is trusted and does not issue yet.
pub(super) const NEXT_FILE: &str = "next.pem";
/// The root that issued before, without its key: still trusted.
pub(super) const PREVIOUS_FILE: &str = "previous.pem";
/// All trusted roots; may be read by anyone.
pub(super) const ROOT_FILE: &str = "root.pem";
/// The largest of these files, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How often a folder is read again because it changed meanwhile: each step of a rotation changes it once or twice.
const READS_MAX: usize = 8;

/// What a folder says.
pub(super) struct Contents {
    pub(super) signer: Signer,
    /// The one that issues first.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Tells whether anything changed.
    pub(super) fingerprint: Fingerprint,
}

/// The files as they are.
#[derive(PartialEq, Eq)]
struct Raw {
    authority: Vec<u8>,
    next: Option<Vec<u8>>,
    previous: Option<Vec<u8>>,
    root: Option<Vec<u8>>,
}

/// Reads the folder. Two reads must agree: a rotation moves roots from file to file, and none must be missed on its way.
pub(super) fn read(folder: &Path) -> anyhow::Result<Contents> {
    let mut raw = Raw::read(folder)?;
    for _ in 0..READS_MAX {
        let again = Raw::read(folder)?;
        if again == raw {
            return raw.parse();
        }
        raw = again;
    }
    anyhow::bail!("it changes faster than it can be read")
}

impl Raw {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let optional = |name: &str, private| {
            let path = folder.join(name);
            let read = read_file(&path, private);
            let missing = |error: &anyhow::Error| {
                error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
            };
            match read {
                Err(error) if missing(&error) => Ok(None),
                read => read.map(Some).with_context(|| path.display().to_string()),
            }
        };
        let authority = folder.join(AUTHORITY_FILE);
        Ok(Self {
            authority: read_file(&authority, true)
                .with_context(|| authority.display().to_string())?,
            next: optional(NEXT_FILE, true)?,
            previous: optional(PREVIOUS_FILE, false)?,
            root: optional(ROOT_FILE, false)?,
        })
    }

    fn parse(self) -> anyhow::Result<Contents> {
        let (key, issuing) = key_and_certificate(&self.authority).context(AUTHORITY_FILE)?;
        let given = certificates(self.root.as_deref().unwrap_or_default()).context(ROOT_FILE)?;
        let (signer, mut roots) = if is_self_signed(&issuing)? {
            (Signer::new(key, &issuing, &issuing).context(AUTHORITY_FILE)?, vec![issuing])
        } else {
            // The root's key is kept elsewhere: what it is is said by the other file.
            let root = issuer_among(&given, &issuing).with_context(|| {
                format!("{AUTHORITY_FILE}: no root in {ROOT_FILE} has issued its certificate")
            })?;
            let signer = Signer::new(key, &issuing, root).context(AUTHORITY_FILE)?;
            let mut roots = vec![root.clone()];
            roots.extend(given.iter().cloned());
            (signer, roots)
        };
        for (name, file) in [(NEXT_FILE, &self.next), (PREVIOUS_FILE, &self.previous)] {
            let Some(text) = file else { continue };
            roots.extend(certificates(text).context(name)?);
        }
        let mut seen = Vec::new();
        roots.retain(|root| {
            let fingerprint = Fingerprint::of(root);
            let is_new = !seen.contains(&fingerprint);
            seen.push(fingerprint);
            is_new
        });
        ensure!(
            roots.len() <= ROOTS_MAX,
            "{} roots are to be trusted, at most {ROOTS_MAX} can be",
            roots.len()
        );
        let mut all = self.authority;
        for file in [self.next, self.previous, self.root] {
            all.push(u8::from(file.is_some()));
            all.extend(file.unwrap_or_default());
        }
        Ok(Contents { signer, roots, fingerprint: Fingerprint::of(&all) })
    }
}

/// Makes an authority, unless someone else does at the same moment: then theirs is it.
pub(super) fn create(folder: &Path, now: Timestamp) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (pair, root) = new_root(now)?;
    let nonce: u64 = rand::rng().random();
    let temporary = folder.join(format!("{AUTHORITY_FILE}.{nonce:016x}"));
    write_synced(&temporary, 0o600, &pair)?;
    // A link, unlike a rename, fails if someone else was first; then theirs is the authority.
    let linked = fs::hard_link(&temporary, folder.join(AUTHORITY_FILE));
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    replace(folder, ROOT_FILE, 0o644, &root)
}

/// A new root as PEM: with its key, and without.
pub(super) fn new_root(now: Timestamp) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("making a key")?;
    let root = certificate::root(now)?.self_signed(&key).context("signing a root")?;
    Ok((format!("{}{}", key.serialize_pem(), root.pem()), root.pem()))
}

/// Writes a file in one step: a reader sees the old one or the new one, whole.
pub(super) fn replace(folder: &Path, name: &str, mode: u32, text: &str) -> anyhow::Result<()> {
    let nonce: u64 = rand::rng().random();
    let temporary = folder.join(format!("{name}.{nonce:016x}"));
    let path = folder.join(name);
    write_synced(&temporary, mode, text)
        .and_then(|()| fs::rename(&temporary, &path))
        .with_context(|| format!("writing {}", path.display()))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn write_synced(path: &PathBuf, mode: u32, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read_file(path: &Path, private: bool) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode();
    // The group may read it: that is how Kubernetes hands a Secret to a pod that does not run as root.
    ensure!(
        !private || mode & 0o027 == 0,
        "others may read or change the key (mode {:o}): run chmod 600 on it, and replace it if it may have been read",
        mode & 0o777
    );
    ensure!(metadata.len() <= FILE_BYTES_MAX, "it has more than {FILE_BYTES_MAX} bytes");
    Ok(fs::read(path)?)
}

fn key_and_certificate(text: &[u8]) -> anyhow::Result<(KeyPair, CertificateDer<'static>)> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text).context("it holds no PKCS#8 key")?;
    let certificate = CertificateDer::from_pem_slice(text).context("it holds no certificate")?;
    let key = KeyPair::try_from(&key).context("its key can't be used")?;
    Ok((key, certificate))
}

fn certificates(text: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text)
        .map(|certificate| certificate.context("it holds something else than certificates"))
        .collect()
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> anyhow::Result<bool> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .with_context(|| format!("{AUTHORITY_FILE}: its certificate can't be read"))?;
    Ok(parsed.verify_signature(None).is_ok())
}

/// The one of these that has issued `certificate`.
fn issuer_among<'a>(
    roots: &'a [CertificateDer<'static>],
    certificate: &CertificateDer<'_>,
) -> Option<&'a CertificateDer<'static>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    roots.iter().find(|root| {
        let Ok((_, root)) = x509_parser::parse_x509_certificate(root) else { return false };
        parsed.verify_signature(Some(root.public_key())).is_ok()
    })
}
