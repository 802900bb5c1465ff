//! What an operator can set of the edge. Unknown keys are refused, defaults stand on the struct, values are checked here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use service::ConfigError;

use crate::access::AccessLog;
use crate::address::TrustedProxies;
use crate::cors::Cors;
use crate::tls::TlsFiles;

const LIMITS_WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
const CONNECTION_AGE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);

/// The section `[edge]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect, with HTTP/1.1 and HTTP/2. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The certificate of that port and its key, as PEM files that are read again when they change. Absent: without TLS.
    pub tls: Option<TlsFiles>,
    /// Hosts that stand for a link domain, such as `127.0.0.1` for the shared one; both without a port.
    pub domain_aliases: BTreeMap<String, String>,
    /// Networks (`10.0.0.0/8`) or addresses whose `x-forwarded-for` is believed; it is read from its right.
    pub trusted_proxies: Vec<String>,
    /// A MaxMind database of countries, or cities, that clicks are placed by. Absent: clicks have no place.
    pub places_file: Option<PathBuf>,
    /// `redis://host:port`, shared by all edges. Absent: each edge has only its own cache.
    pub redis: Option<String>,
    /// Short links that this edge remembers, 64 to 10,000,000.
    pub cached_links_max: usize,
    /// How old a remembered link may get while `links` can't answer, 30 s to 1 d.
    #[serde(with = "service::duration")]
    pub stale_max: Duration,
    /// Connections at once, 1 to 1,000,000; further ones wait to be accepted.
    pub connections_max: usize,
    /// How old a connection gets, a tenth more or less, before its client is asked to open another, 1 m to 1 d.
    #[serde(with = "service::duration")]
    pub connection_age_max: Duration,
    /// Bytes of a request's body or message, 1 KiB to 64 MiB; of a stream, those of each message.
    pub body_bytes_max: usize,
    /// Bytes of all messages of a stream that a client sends by REST, 1 KiB to 1 TiB. None of them are kept.
    pub stream_bytes_max: u64,
    /// Bytes that the spool may take on disk before clicks are lost (and counted as lost), at least 32 MiB.
    pub spool_bytes_max: u64,
    /// A FileDescriptorSet with all imports (`buf build -o`, `protoc --include_imports --descriptor_set_out`), up to 16 MiB, whose
    /// methods clients may call; it is read again when it changes, and one that can't be used whole changes nothing. Absent: the
    /// methods that this program was built with.
    pub descriptors_file: Option<PathBuf>,
    /// What access tokens must say.
    pub tokens: TokensConfig,
    /// How often clients may ask.
    pub limits: LimitsConfig,
    /// Origins of browser pages that may call the API; `*` is every origin, without credentials.
    pub cors_origins: Vec<String>,
    /// Which requests have a line in the log, on the target `access`: `off`, `calls` of the API, or `all`, redirects too.
    pub access_log: AccessLog,
    /// Such lines in a second, 1 to 1,000,000; further ones are left out, and counted.
    pub access_log_lines_max: u32,
    /// How long what is in flight may take to finish at a stop, 0 s to 1 h.
    #[serde(with = "service::duration")]
    pub drain_max: Duration,
    /// How long the spool may take to be shipped at a stop, 0 s to 1 h; what is left is shipped by the next start.
    #[serde(with = "service::duration")]
    pub ship_max: Duration,
}

/// The section `[edge.tokens]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensConfig {
    /// `iss`, to the letter: `identity.tokens.issuer`.
    pub issuer: String,
    /// `aud`, to the letter: `identity.tokens.audience`.
    pub audience: String,
}

/// The section `[edge.limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A TOML file of limits that is read again when it changes; what it does not say has the default shown here, each 1 to
    /// 10,000,000. Absent: the defaults.
    ///
    /// ```toml
    /// # Requests a minute of each API key and each user, by tier.
    /// [tiers]
    /// free = 100
    /// premium = 1000
    /// enterprise = 10000
    /// # Of each address (IPv6: each /64), requests a minute whose sender is not proved.
    /// [addresses]
    /// minute = 100
    /// # Of each address at each edge, requests a second for short links.
    /// [redirects]
    /// second = 100
    /// # Requests to a service by each caller; up to 64 services.
    /// [services.identity]
    /// minute = 1000
    /// hour = 10000
    /// [services.content]
    /// minute = 500
    /// hour = 5000
    /// ```
    pub file: Option<PathBuf>,
    /// `redis://host:port` that limits are kept in, for one that evicts nothing. Absent: `edge.redis`; where that is absent too,
    /// each edge decides alone, at its share.
    pub redis: Option<String>,
    /// How long a request waits for Redis before this edge decides alone, 1 ms to 1 s.
    #[serde(with = "service::duration")]
    pub wait_max: Duration,
    /// Whether answers have the draft's `RateLimit` and `RateLimit-Policy` beside `X-RateLimit-*`.
    pub draft_headers: bool,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let wait_max = Duration::from_millis(5);
        Self { file: None, redis: None, wait_max, draft_headers: false }
    }
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self { issuer: "linkmesh".to_owned(), audience: "linkmesh".to_owned() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            domain_aliases: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            places_file: None,
            redis: None,
            cached_links_max: 1_000_000,
            stale_max: Duration::from_hours(1),
            connections_max: 50_000,
            connection_age_max: Duration::from_hours(1),
            body_bytes_max: 16 * 1024 * 1024,
            stream_bytes_max: 4 * 1024 * 1024 * 1024,
            spool_bytes_max: 8 * 1024 * 1024 * 1024,
            descriptors_file: None,
            tokens: TokensConfig::default(),
            limits: LimitsConfig::default(),
            cors_origins: vec!["*".to_owned()],
            access_log: AccessLog::Off,
            access_log_lines_max: 1_000,
            drain_max: Duration::from_secs(20),
            ship_max: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Refuses values outside their ranges; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let hour = Duration::from_hours(1);
        let stale = Duration::from_secs(30)..=Duration::from_hours(24);
        let checks = [
            (
                "edge.cached_links_max",
                (64..=10_000_000).contains(&self.cached_links_max),
                "must be 64 to 10000000",
            ),
            ("edge.stale_max", stale.contains(&self.stale_max), "must be 30s to 1d"),
            (
                "edge.connections_max",
                (1..=1_000_000).contains(&self.connections_max),
                "must be 1 to 1000000",
            ),
            (
                "edge.connection_age_max",
                CONNECTION_AGE.contains(&self.connection_age_max),
                "must be 1m to 1d",
            ),
            (
                "edge.body_bytes_max",
                (1024..=64 << 20).contains(&self.body_bytes_max),
                "must be 1024 to 67108864",
            ),
            (
                "edge.stream_bytes_max",
                (1024..=1 << 40).contains(&self.stream_bytes_max),
                "must be 1024 to 1099511627776",
            ),
            ("edge.spool_bytes_max", self.spool_bytes_max >= 32 << 20, "must be at least 33554432"),
            (
                "edge.access_log_lines_max",
                (1..=1_000_000).contains(&self.access_log_lines_max),
                "must be 1 to 1000000",
            ),
            ("edge.drain_max", self.drain_max <= hour, "must be 0s to 1h"),
            ("edge.ship_max", self.ship_max <= hour, "must be 0s to 1h"),
            (
                "edge.limits.wait_max",
                LIMITS_WAIT.contains(&self.limits.wait_max),
                "must be 1ms to 1s",
            ),
            ("edge.tokens.issuer", !self.tokens.issuer.is_empty(), "must not be empty"),
            ("edge.tokens.audience", !self.tokens.audience.is_empty(), "must not be empty"),
        ];
        for (key, is_good, why) in checks {
            if !is_good {
                return Err(ConfigError::new(key, why));
            }
        }
        TrustedProxies::parse(&self.trusted_proxies)?;
        Cors::parse(&self.cors_origins)?;
        Ok(())
    }
}
