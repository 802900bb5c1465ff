//! The sections of the configuration that every process has: `[host]`, `[mesh]`, `[bus]`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::duration;
use crate::settings::ConfigError;
use crate::settings::Settings;

/// The longest `unready_notice`: longer than any load balancer takes to notice.
const UNREADY_NOTICE_MAX: Duration = Duration::from_secs(120);
/// The longest `drain_max`: an hour, the longest a stream may last.
const DRAIN_MAX: Duration = Duration::from_hours(1);
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
        if let Some(endpoint) = &self.traces_endpoint {
            let is_endpoint = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
            });
            if !is_endpoint {
                let why =
                    format!("is {endpoint:?}, expected a URL such as `http://collector:4317`");
                return Err(ConfigError::new("host.traces_endpoint", why));
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
}

impl Default for MeshConfig {
    fn default() -> MeshConfig {
        MeshConfig { registry: "memory:".to_owned(), authority: None }
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
