//! Configuration: one TOML file, then the environment (`LINKMESH__SECTION__KEY`) over it, read once at the start.
//!
//! Whatever is not understood is refused with its full key: a typo never silently means the default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use config::Value;
use config::ValueKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What an environment variable's name begins with to be read as a setting.
const ENVIRONMENT_PREFIX: &str = "LINKMESH__";
/// Separates section, key and what lies below in an environment variable's name.
const ENVIRONMENT_SEPARATOR: &str = "__";
/// The longest `unready_notice`: longer than any load balancer takes to notice.
const UNREADY_NOTICE_MAX: Duration = Duration::from_secs(120);
/// The longest `drain_max`: an hour, the longest a stream may last.
const DRAIN_MAX: Duration = Duration::from_hours(1);
/// The longest instance id: it becomes part of file names and of etcd keys.
const INSTANCE_BYTES_MAX: usize = 63;

/// A setting that can't be taken. The program answers it with exit code 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The full key, such as `links.postgres.primary`; empty when the file itself can't be read.
    pub key: String,
    /// What is wrong with its value, and what would be accepted.
    pub why: String,
}

impl ConfigError {
    /// An error for `key`; `why` says what is accepted.
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), why: why.into() }
    }

    fn below(section: &str, error: &config::ConfigError) -> ConfigError {
        let (path, why) = match error {
            config::ConfigError::At { error, key, .. } => (key.as_deref(), error.to_string()),
            config::ConfigError::Type { unexpected, expected, key, .. } => {
                (key.as_deref(), format!("is {unexpected}, expected {expected}"))
            }
            config::ConfigError::NotFound(key) => (Some(key.as_str()), "is missing".to_owned()),
            other => (None, other.to_string()),
        };
        let mut key = section.to_owned();
        // Serde names a field that it does not know, or misses, only in its text: it belongs to the key.
        let (field, why) = match quoted_after(&why, "unknown field ") {
            Some((field, accepted)) => (Some(field), format!("is not a setting{accepted}")),
            None => match quoted_after(&why, "missing field ") {
                Some((field, _)) => (Some(field), "is missing".to_owned()),
                None => (None, why),
            },
        };
        for part in path.into_iter().chain(field.as_deref()).filter(|part| !part.is_empty()) {
            if !part.starts_with('[') && !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
        ConfigError { key, why }
    }
}

/// Splits "PREFIX`NAME`REST" into NAME and REST.
fn quoted_after(text: &str, prefix: &str) -> Option<(String, String)> {
    let (name, rest) = text.strip_prefix(prefix)?.strip_prefix('`')?.split_once('`')?;
    Some((name.to_owned(), rest.to_owned()))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(formatter, "configuration: {}", self.why);
        }
        let variable = self.key.to_uppercase().replace('.', ENVIRONMENT_SEPARATOR);
        write!(
            formatter,
            "configuration key `{}` (or {ENVIRONMENT_PREFIX}{variable} in the environment): {}",
            self.key, self.why
        )
    }
}

impl std::error::Error for ConfigError {}

/// What the file and the environment say, by section, before anyone has looked at it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    sections: BTreeMap<String, Value>,
}

impl Settings {
    /// Reads the file, if there is one, and lays `environment` over it.
    ///
    /// Of the environment only names that begin with `LINKMESH__` are read. A value that begins with `[` or `{` is read as
    /// TOML, so lists and tables can be given too. Fails if the file can't be read or is no TOML.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::new("", format!("{} can't be read: {error}", path.display()))
            })?;
            builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
        }
        for (name, text) in environment {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let key = path.to_lowercase().replace(ENVIRONMENT_SEPARATOR, ".");
            builder = builder
                .set_override(&key, environment_value(&key, text)?)
                .map_err(|error| ConfigError::new(&key, error.to_string()))?;
        }
        let merged = builder.build().map_err(|error| {
            let place = file.map_or_else(String::new, |path| format!("{}: ", path.display()));
            ConfigError::new("", format!("{place}{error}"))
        })?;
        let sections = merged
            .cache
            .into_table()
            .map_err(|error| ConfigError::new("", error.to_string()))?
            .into_iter()
            .collect();
        Ok(Settings { sections })
    }

    /// Refuses sections that are not among `accepted`.
    pub fn accept_only(&self, accepted: &[&str]) -> Result<(), ConfigError> {
        match self.sections.keys().find(|name| !accepted.contains(&name.as_str())) {
            Some(name) => Err(ConfigError::new(
                name,
                format!("is not a section, expected one of {}", accepted.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// Whether anything is said in the section.
    pub fn has(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// Reads a section; one that is not there is read as an empty one.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, ConfigError> {
        let empty = || Value::new(None, ValueKind::Table(config::Map::new()));
        let value = self.sections.get(section).cloned().unwrap_or_else(empty);
        T::deserialize(value).map_err(|error| ConfigError::below(section, &error))
    }

    /// Takes one key out of a section, so that [`Settings::section`] does not see it any more.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        section: &str,
        key: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.sections.get_mut(section) else { return Ok(None) };
        let ValueKind::Table(table) = &mut value.kind else {
            return Err(ConfigError::new(section, "is not a section, expected a table"));
        };
        let Some(taken) = table.remove(key) else { return Ok(None) };
        let path = format!("{section}.{key}");
        T::deserialize(taken).map(Some).map_err(|error| ConfigError::below(&path, &error))
    }

    /// Sets one key, over whatever was said: for what the program itself decides, as `linkmesh dev` does.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<ValueKind>) {
        let entry = self
            .sections
            .entry(section.to_owned())
            .or_insert_with(|| Value::new(None, ValueKind::Table(config::Map::new())));
        if let ValueKind::Table(table) = &mut entry.kind {
            table.insert(key.to_owned(), Value::new(None, value));
        }
    }
}

/// An environment variable's value: TOML when it looks like a list or a table, else the text as it is, which is converted to
/// whatever type the key has.
fn environment_value(key: &str, text: String) -> Result<Value, ConfigError> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::new(None, text));
    }
    let document = config::Config::builder()
        .add_source(config::File::from_str(&format!("value = {text}"), config::FileFormat::Toml))
        .build();
    document
        .and_then(|parsed| parsed.get::<Value>("value"))
        .map_err(|error| ConfigError::new(key, format!("is not valid TOML: {error}")))
}

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
                let why = format!("is {instance:?}, expected 1 to 63 characters of a-z, 0-9, . and -");
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
            let why = format!("is {:?}, expected a filter such as `info,mesh=debug`: {error}", self.log);
            return Err(ConfigError::new("host.log", why));
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

/// Durations in configuration, as `250ms`, `30s`, `5m`, `2h` or `35d`: for `#[serde(with = "service::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;

    /// Reads a whole number with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            let accepted = "expected a whole number and ms, s, m, h or d, such as 30s";
            D::Error::custom(format!("is {text:?}, {accepted}"))
        })
    }

    /// Writes milliseconds.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", duration.as_millis()))
    }

    fn parse(text: &str) -> Option<Duration> {
        let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = text[..unit_at].parse().ok()?;
        let milliseconds: u64 = match &text[unit_at..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(milliseconds).map(Duration::from_millis)
    }
}
