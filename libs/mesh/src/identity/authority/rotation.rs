//! The steps by which an authority's root is replaced while everyone goes on: a new root is trusted before it issues, and the
//! old one until nothing of it is left.

use super::LocalAuthority;
use super::files;
use super::files::AUTHORITY_FILE;
use super::files::NEXT_FILE;
use super::files::PREVIOUS_FILE;
use super::files::ROOT_FILE;
use crate::identity::Fingerprint;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::path::Path;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// One root issues and is trusted.
    Settled,
    /// A second root is trusted and does not issue.
    Prepared {
        /// The second one.
        next: Fingerprint,
    },
    /// The second root issues, and the first is trusted still.
    Activated {
        /// The first one.
        previous: Fingerprint,
    },
}

impl Rotation {
    /// How far the authority in `folder` is.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let fingerprint = |name: &str| {
            let path = folder.join(name);
            if !path.exists() {
                return Ok(None);
            }
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let certificate = CertificateDer::from_pem_slice(&text)
                .with_context(|| format!("{} holds no certificate", path.display()))?;
            anyhow::Ok(Some(Fingerprint::of(&certificate)))
        };
        Ok(match (fingerprint(NEXT_FILE)?, fingerprint(PREVIOUS_FILE)?) {
            (Some(next), _) => Self::Prepared { next },
            (None, Some(previous)) => Self::Activated { previous },
            (None, None) => Self::Settled,
        })
    }

    /// Makes a second root, to be trusted from now on.
    ///
    /// # Errors
    /// If a rotation is under way, the root's key is not in the folder, or it can't be written.
    pub fn prepare(folder: &Path, now: Timestamp) -> anyhow::Result<Fingerprint> {
        match Self::of(folder)? {
            Self::Settled => {}
            Self::Prepared { .. } => bail!("a second root is there already: activate it"),
            Self::Activated { .. } => bail!("the rotation before is not finished"),
        }
        let authority = LocalAuthority::open(folder)?;
        ensure!(
            authority.signer().is_root(),
            "the root's key is not in {}: rotate it where it is, and put what issues into {AUTHORITY_FILE} and all roots into {ROOT_FILE}",
            folder.display()
        );
        let (pair, _) = files::new_root(now)?;
        files::replace(folder, NEXT_FILE, 0o600, &pair)?;
        publish_roots(folder)?;
        match Self::of(folder)? {
            Self::Prepared { next } => Ok(next),
            Self::Settled | Self::Activated { .. } => bail!("someone else rotates it too"),
        }
    }

    /// Has the second root issue. Everyone must trust it by now.
    ///
    /// # Errors
    /// If there is no second root, or the folder can't be written.
    pub fn activate(folder: &Path) -> anyhow::Result<()> {
        let Self::Prepared { .. } = Self::of(folder)? else {
            bail!("there is no second root to activate: prepare one");
        };
        let authority = folder.join(AUTHORITY_FILE);
        let issuing = CertificateDer::from_pem_slice(&fs::read(&authority)?)
            .with_context(|| format!("{} holds no certificate", authority.display()))?;
        // Trusted in its own right first, so that there is no moment at which it is not.
        files::replace(folder, PREVIOUS_FILE, 0o644, &pem(&issuing))?;
        fs::rename(folder.join(NEXT_FILE), &authority)
            .with_context(|| format!("replacing {}", authority.display()))?;
        publish_roots(folder)
    }

    /// Trusts the first root no more. Nobody must have a certificate of it by now.
    ///
    /// # Errors
    /// If no second root issues, or the folder can't be written.
    pub fn finish(folder: &Path) -> anyhow::Result<()> {
        let Self::Activated { .. } = Self::of(folder)? else {
            bail!("there is no root to drop: prepare and activate another first");
        };
        let previous = folder.join(PREVIOUS_FILE);
        fs::remove_file(&previous).with_context(|| format!("removing {}", previous.display()))?;
        publish_roots(folder)
    }
}

/// Writes what foreign clients are to trust.
fn publish_roots(folder: &Path) -> anyhow::Result<()> {
    let authority = LocalAuthority::open(folder)?;
    let text: String = authority.roots().iter().map(pem).collect();
    files::replace(folder, ROOT_FILE, 0o644, &text)
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    crate::identity::pem::encode("CERTIFICATE", certificate)
}
