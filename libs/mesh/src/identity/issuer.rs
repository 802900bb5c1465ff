//! Where identities come from, as configured: an authority in a folder, or control.

use super::Fingerprint;
use super::authority::LEAF_LIFE_DEFAULT;
use super::issuing::Issuing;
use super::join_token::JoinToken;
use crate::registry::Registry;
use anyhow::Context as _;
use anyhow::ensure;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The most addresses of control that can be named.
const ADDRESSES_MAX: usize = 9;
/// The largest file with a token or roots, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where identities come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// `file:FOLDER`: an authority whose key this process may read.
    File {
        /// The authority's folder.
        folder: PathBuf,
        /// How long a certificate is valid.
        life: Duration,
    },
    /// `control:` (found in the registry) or `control:host:port,host:port`.
    Control {
        /// Where control is; none: the registry knows.
        addresses: Vec<String>,
        /// How a process that has no certificate proves what it is; none: it must have one.
        credential: Option<Credential>,
        /// What it trusts then, besides what the credential names.
        root: Option<Root>,
    },
}

/// What a process joins by. The file is read at each attempt: such tokens are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The file that holds a join token's text.
    Token(PathBuf),
    /// The file that holds the projected token of a Kubernetes service account.
    Kubernetes(PathBuf),
}

/// What a process that joins trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The file that holds the roots, as PEM; read at each attempt.
    File(PathBuf),
    /// The roots' SHA-256.
    Pins(Vec<Fingerprint>),
}

impl Issuer {
    /// The authority of a folder, with certificates for a day.
    #[must_use]
    pub fn file(folder: &Path) -> Self {
        Self::File { folder: folder.to_owned(), life: LEAF_LIFE_DEFAULT }
    }

    /// Reads `file:FOLDER`, `control:` or `control:host:port,host:port`.
    ///
    /// # Errors
    /// If `uri` is none of them.
    pub fn parse(uri: &str) -> anyhow::Result<Self> {
        if let Some(folder) = uri.strip_prefix("file:").filter(|folder| !folder.is_empty()) {
            return Ok(Self::file(Path::new(folder)));
        }
        let addresses = uri.strip_prefix("control:").with_context(|| {
            format!("`{uri}`: must be `file:FOLDER`, `control:` or `control:host:port,…`")
        })?;
        let addresses: Vec<_> =
            addresses.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        ensure!(addresses.len() <= ADDRESSES_MAX, "at most {ADDRESSES_MAX} addresses can be named");
        for address in &addresses {
            let authority: Result<http::uri::Authority, _> = address.parse();
            let named = authority.is_ok_and(|authority| authority.port_u16().is_some());
            ensure!(named, "address `{address}`: must be host:port");
        }
        Ok(Self::Control { addresses, credential: None, root: None })
    }

    /// Prepares to issue `service`'s identity and to renew it. Contacts nothing.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn of_service(
        self,
        service: &str,
        registry: Arc<dyn Registry>,
        kept: PathBuf,
    ) -> anyhow::Result<Issuing> {
        Issuing::new(self, service, registry, kept)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { folder, .. } => write!(formatter, "file:{}", folder.display()),
            Self::Control { addresses, .. } => write!(formatter, "control:{}", addresses.join(",")),
        }
    }
}

impl Root {
    /// Reads `sha256:<hex>,<hex>` or a file's path.
    ///
    /// # Errors
    /// If a fingerprint is malformed.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(pins) = text.strip_prefix("sha256:") else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        Ok(Self::Pins(pins.split(',').map(Fingerprint::parse).collect::<Result<_, _>>()?))
    }

    fn pins(&self) -> anyhow::Result<Vec<Fingerprint>> {
        match self {
            Self::Pins(pins) => Ok(pins.clone()),
            Self::File(path) => {
                let text = read(path)?;
                CertificateDer::pem_slice_iter(text.as_bytes())
                    .map(|root| anyhow::Ok(Fingerprint::of(&root?)))
                    .collect::<anyhow::Result<_>>()
                    .with_context(|| format!("the roots in {}", path.display()))
            }
        }
    }
}

/// What a join is made with.
pub(super) struct Proof {
    pub(super) credential: proto::mesh::v1::join_request::Credential,
    pub(super) pins: Vec<Fingerprint>,
}

/// Reads the credential, and what is to be trusted with it.
pub(super) fn proof(credential: &Credential, root: Option<&Root>) -> anyhow::Result<Proof> {
    use proto::mesh::v1::join_request::Credential as Sent;
    let mut pins = root.map(Root::pins).transpose()?.unwrap_or_default();
    let credential = match credential {
        Credential::Token(path) => {
            let text = read(path)?.trim().to_owned();
            let token = JoinToken::parse(&text)
                .with_context(|| format!("the join token in {}", path.display()))?;
            pins.extend(token.pins);
            Sent::JoinToken(text)
        }
        Credential::Kubernetes(path) => Sent::KubernetesToken(read(path)?.trim().to_owned()),
    };
    Ok(Proof { credential, pins })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let length = fs::metadata(path).with_context(reading)?.len();
    ensure!(length <= FILE_BYTES_MAX, "{} has more than {FILE_BYTES_MAX} bytes", path.display());
    fs::read_to_string(path).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_folder_or_control() {
        let parsed = |uri| Issuer::parse(uri).unwrap();
        assert_eq!(parsed("file:/a/b"), Issuer::file(Path::new("/a/b")));
        for (uri, count) in [("control:", 0), ("control:a:1", 1), ("control:a:1,[::1]:2", 2)] {
            let Issuer::Control { addresses, .. } = parsed(uri) else { panic!("{uri}") };
            assert_eq!(addresses.len(), count, "{uri}");
            assert_eq!(parsed(uri).to_string(), uri);
        }
        for uri in ["", "file:", "control", "control:a", "vault:a:1", "control:a:99999"] {
            assert!(Issuer::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_root_is_a_file_or_its_fingerprint() {
        let pin = "ab".repeat(32);
        let expected = Root::Pins(vec![Fingerprint::parse(&pin).unwrap()]);
        assert_eq!(Root::parse(&format!("sha256:{pin}")).unwrap(), expected);
        assert_eq!(Root::parse("/a").unwrap(), Root::File("/a".into()));
        assert!(Root::parse("sha256:ab").is_err());
    }
}
