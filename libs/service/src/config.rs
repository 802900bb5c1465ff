//! The sections of the configuration that every process has: `[host]`, `[mesh]`, `[bus]`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use mesh::identity::Credential;
use mesh::identity::Issuer;
use mesh::identity::Root;
use serde::Deserialize;

use crate::duration;
use crate::settings::ConfigError;
use crate::settings::Settings;

/// The longest `unready_notice`: longer than any load balancer takes to notice.
const UNREADY_NOTICE_MAX: Duration = Duration::from_secs(120);
/// The longest `drain_max`: an hour, the longest a stream may last.
const DRAIN_MAX: Duration = Duration::from_hours(1);
/// The shortest and the longest `certificate_life`: long enough to be renewed, short enough to need no revocation.
const CERTIFICATE_LIFE_MIN: Duration = Duration::from_secs(10);
const CERTIFICATE_LIFE_MAX: Duration = Duration::from_hours(72);
/// What a bus may be.
const BUS_SCHEMES: [&str; 3] = ["kafka://", "kafka+ssl://", "file:"];
/// The longest instance id: it becomes part of file names and of etcd keys.
const INSTANCE_BYTES_MAX: usize = 63;

/// The settings that every process has: sections `[host]`, `[mesh]` and `[bus]`.
#[derive(Debug, Clone, Default)]
pub struct HostConfig {
    /// `[host]`.
    pub host: ProcessConfig,
    /// `[mesh]`.
    pub mesh: MeshConfig,
    /// `[bus]`.
    pub bus: BusConfig,
}

impl HostConfig {
    /// Reads and checks the three sections.
    pub fn from_settings(settings: &Settings) -> Result<HostConfig, ConfigError> {
        let config = HostConfig {
            host: settings.section("host")?,
            mesh: settings.section("mesh")?,
            bus: settings.section("bus")?,
        };
        config.host.check()?;
        config.mesh.check()?;
        config.bus.check()?;
        Ok(config)
    }
}

/// Section `[host]`: the process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// The instance's id, such as `links-2`; 1 to 63 of `a-z0-9.-`. Unique in the mesh, and the same again after a restart, since
    /// the data folder hangs on it. With several services in a process each is `<service>-<instance>`. Default: the host's
    /// name.
    pub instance: Option<String>,
    /// The failure domain, such as `eu-west-1a`.
    pub zone: String,
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// Where everything that outlives a restart lies: spools, snapshots, keys.
    pub data: PathBuf,
    /// The address that peers reach this process under; needed when services listen on an unspecified one (`0.0.0.0`).
    pub advertise: Option<IpAddr>,
    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub admin_listen: SocketAddr,
    /// What is logged, as in `info,mesh=debug`.
    pub log: String,
    /// How it is written: `auto` (text on a terminal, else JSON), `json` or `text`.
    pub log_format: LogFormat,
    /// Where spans go: an OTLP/gRPC endpoint such as `http://collector:4317`. Absent: nowhere.
    pub traces_endpoint: Option<String>,
    /// Where metrics go, besides being shown at `/metrics`: an OTLP/gRPC endpoint, which is sent them every 10 s. Absent: nowhere.
    pub metrics_endpoint: Option<String>,
    /// The share of traces begun here that is kept, 0 to 1. What a caller has decided is kept to.
    pub traces_ratio: f64,
    /// How long a process that stops still takes calls after it said that it is not ready, 0 s to 120 s: as long as the load
    /// balancers before it take to notice.
    #[serde(with = "duration")]
    pub unready_notice: Duration,
    /// How long calls in flight may take to finish at the stop, 0 s to 1 h.
    #[serde(with = "duration")]
    pub drain_max: Duration,
}

impl Default for ProcessConfig {
    fn default() -> ProcessConfig {
        ProcessConfig {
            instance: None,
            zone: "local".to_owned(),
            region: "local".to_owned(),
            data: PathBuf::from("/var/lib/linkmesh"),
            advertise: None,
            admin_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            traces_endpoint: None,
            metrics_endpoint: None,
            traces_ratio: 0.01,
            unready_notice: Duration::ZERO,
            drain_max: Duration::from_secs(20),
        }
    }
}

impl ProcessConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(instance) = &self.instance {
            let allowed = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)
            };
            let length = instance.len();
            if length == 0 || length > INSTANCE_BYTES_MAX || !instance.bytes().all(allowed) {
                let why =
                    format!("is {instance:?}, expected 1 to 63 characters of a-z, 0-9, . and -");
                return Err(ConfigError::new("host.instance", why));
            }
        }
        if !(0.0..=1.0).contains(&self.traces_ratio) {
            let why = format!("is {}, expected 0 to 1", self.traces_ratio);
            return Err(ConfigError::new("host.traces_ratio", why));
        }
        for (key, value, max) in [
            ("host.unready_notice", self.unready_notice, UNREADY_NOTICE_MAX),
            ("host.drain_max", self.drain_max, DRAIN_MAX),
        ] {
            if value > max {
                let why = format!("is {} s, expected 0 s to {} s", value.as_secs(), max.as_secs());
                return Err(ConfigError::new(key, why));
            }
        }
        if let Err(error) = self.log.parse::<tracing_subscriber::EnvFilter>() {
            let why =
                format!("is {:?}, expected a filter such as `info,mesh=debug`: {error}", self.log);
            return Err(ConfigError::new("host.log", why));
        }
        for (key, endpoint) in [
            ("host.traces_endpoint", &self.traces_endpoint),
            ("host.metrics_endpoint", &self.metrics_endpoint),
        ] {
            let Some(endpoint) = endpoint else { continue };
            let is_endpoint = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
            });
            if !is_endpoint {
                let why =
                    format!("is {endpoint:?}, expected a URL such as `http://collector:4317`");
                return Err(ConfigError::new(key, why));
            }
        }
        Ok(())
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// Text when standard error is a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<LogFormat, String> {
        match text.as_str() {
            "auto" => Ok(LogFormat::Auto),
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err(format!("is {text:?}, expected one of auto, json, text")),
        }
    }
}

/// Section `[mesh]`: how services find and prove each other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshConfig {
    /// The registry: `memory:` (services of this process only) or `etcd://host:port,host:port`.
    pub registry: String,
    /// The folder of the local certificate authority, the same for all processes. Default: `authority` in the data folder.
    pub authority: Option<PathBuf>,
    /// Where certificates come from: `file:FOLDER`, an authority whose key this process may read; `control:`, found in the
    /// registry; or `control:host:port,host:port`. Default: `file:` with the authority's folder.
    pub issuer: Option<String>,
    /// How a process without a certificate joins at control: the file that holds a join token. Needed at the first start alone.
    pub join_token: Option<PathBuf>,
    /// The same in Kubernetes: the file that holds the projected token of the service account.
    pub join_kubernetes: Option<PathBuf>,
    /// The roots that control must lead to when a process joins: a PEM file, or `sha256:<hex>,<hex>`. A join token names them
    /// itself.
    pub join_root: Option<String>,
    /// How long a certificate of `file:` is valid, 10 s to 72 h; it is renewed at 70 % of that.
    #[serde(with = "duration")]
    pub certificate_life: Duration,
}

impl Default for MeshConfig {
    fn default() -> MeshConfig {
        MeshConfig {
            registry: "memory:".to_owned(),
            authority: None,
            issuer: None,
            join_token: None,
            join_kubernetes: None,
            join_root: None,
            certificate_life: mesh::identity::LEAF_LIFE_DEFAULT,
        }
    }
}

impl MeshConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.issuer(Path::new("")).map(drop)
    }

    /// Where the identities of a process come from whose data are in `data`.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn issuer(&self, data: &Path) -> Result<Issuer, ConfigError> {
        let refused = |key, error: &anyhow::Error| ConfigError::new(key, format!("{error:#}"));
        let life = self.certificate_life;
        if life < CERTIFICATE_LIFE_MIN || life > CERTIFICATE_LIFE_MAX {
            let why = format!(
                "is {} s, expected {} s to {} h",
                life.as_secs(),
                CERTIFICATE_LIFE_MIN.as_secs(),
                CERTIFICATE_LIFE_MAX.as_secs() / 3600
            );
            return Err(ConfigError::new("mesh.certificate_life", why));
        }
        let mut issuer = match &self.issuer {
            None => Issuer::file(&self.authority_folder(data)),
            Some(uri) => Issuer::parse(uri).map_err(|error| refused("mesh.issuer", &error))?,
        };
        match &mut issuer {
            Issuer::File { life: of_file, .. } => *of_file = life,
            Issuer::Control { credential, root, .. } => {
                *credential = match (&self.join_token, &self.join_kubernetes) {
                    (None, None) => None,
                    (Some(token), None) => Some(Credential::Token(token.clone())),
                    (None, Some(token)) => Some(Credential::Kubernetes(token.clone())),
                    (Some(_), Some(_)) => {
                        let why = "is given beside mesh.join_token: a process joins by one of them";
                        return Err(ConfigError::new("mesh.join_kubernetes", why));
                    }
                };
                let parsed = self.join_root.as_deref().map(Root::parse).transpose();
                *root = parsed.map_err(|error| refused("mesh.join_root", &error))?;
                if root.is_none() && matches!(credential, Some(Credential::Kubernetes(_))) {
                    let why = "is missing: a service account's token does not say which root is to be trusted";
                    return Err(ConfigError::new("mesh.join_root", why));
                }
            }
        }
        Ok(issuer)
    }

    /// The folder of the local authority of a process whose data are in `data`.
    pub fn authority_folder(&self, data: &Path) -> PathBuf {
        self.authority.clone().unwrap_or_else(|| data.join("authority"))
    }
}

/// Section `[bus]`: the event bus.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `kafka://host:port,host:port`, or `file:/folder` for the services of this process only. Default: `bus` in the data
    /// folder.
    pub uri: Option<String>,
}

impl BusConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match &self.uri {
            Some(uri) if !BUS_SCHEMES.iter().any(|scheme| uri.starts_with(scheme)) => {
                // Not the value: a password may be in it.
                let why = format!("begins with none of {}", BUS_SCHEMES.join(", "));
                Err(ConfigError::new("bus.uri", why))
            }
            Some(_) | None => Ok(()),
        }
    }
}
