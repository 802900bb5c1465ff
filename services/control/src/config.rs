//! Section `[control]` of the configuration.

use mesh::PeerIdentity;
use serde::Deserialize;
use service::ConfigError;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The shortest and the longest life of a certificate: long enough to be renewed, short enough to need no revocation.
const CERTIFICATE_LIFE_MIN: Duration = Duration::from_secs(10);
const CERTIFICATE_LIFE_MAX: Duration = Duration::from_hours(72);
/// The most service accounts that can be named.
const ACCOUNTS_MAX: usize = 1_000;

/// What the service needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of the certificate authority: `authority.pem` (the root's key and certificate, or an intermediate's, with the
    /// roots in `root.pem`), readable by nobody else. Default: `mesh.authority`.
    pub authority: Option<PathBuf>,
    /// How long the certificate of a service is valid, 10 s to 72 h; it is renewed at 70 % of that.
    #[serde(with = "service::duration")]
    pub certificate_life: Duration,
    /// The Kubernetes cluster whose service accounts may join.
    pub kubernetes: Option<KubernetesConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authority: None,
            certificate_life: mesh::identity::LEAF_LIFE_DEFAULT,
            kubernetes: None,
        }
    }
}

/// Section `[control.kubernetes]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Who issues the tokens (`iss`), such as `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// For whom they are issued (`aud`).
    #[serde(default = "audience_default")]
    pub audience: String,
    /// The keys that sign them, a JWKS: a file's path, or a URL such as `https://kubernetes.default.svc/openid/v1/jwks`.
    pub jwks: String,
    /// The PEM file of the root that the URL's server must lead to.
    pub jwks_root: Option<PathBuf>,
    /// The file of a token to be shown to that server.
    pub jwks_token: Option<PathBuf>,
    /// By service account, `namespace/name`, the services that it may join as.
    pub accounts: BTreeMap<String, Vec<String>>,
}

fn audience_default() -> String {
    "linkmesh".to_owned()
}

impl Config {
    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let life = self.certificate_life;
        if life < CERTIFICATE_LIFE_MIN || life > CERTIFICATE_LIFE_MAX {
            let why = format!(
                "is {} s, expected {} s to {} h",
                life.as_secs(),
                CERTIFICATE_LIFE_MIN.as_secs(),
                CERTIFICATE_LIFE_MAX.as_secs() / 3600
            );
            return Err(ConfigError::new("control.certificate_life", why));
        }
        self.kubernetes.as_ref().map_or(Ok(()), KubernetesConfig::check)
    }
}

impl KubernetesConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let refused = |key: &str, why: String| {
            Err(ConfigError::new(format!("control.kubernetes.{key}"), why))
        };
        if self.issuer.is_empty() || self.audience.is_empty() {
            return refused("issuer", "is empty, or the audience is".to_owned());
        }
        if let Err(error) = crate::certificates::Source::parse(&self.jwks) {
            return refused("jwks", format!("{error:#}"));
        }
        if self.accounts.len() > ACCOUNTS_MAX {
            return refused("accounts", format!("names more than {ACCOUNTS_MAX}"));
        }
        for (account, services) in &self.accounts {
            let well_formed = account
                .split_once('/')
                .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
            if !well_formed {
                let why = format!("names {account:?}, expected namespace/name");
                return refused("accounts", why);
            }
            for service in services {
                if let Err(error) = joinable(service) {
                    return refused("accounts", format!("lets {account} join as {error:#}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a process may join as that service at all.
pub(crate) fn joinable(service: &str) -> anyhow::Result<PeerIdentity> {
    anyhow::ensure!(service != crate::NAME, "`{service}`: control issues its own certificate");
    PeerIdentity::service(service)
}
