//! What an operator can set of the edge. Unknown keys are refused, defaults stand on the struct.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// The section `[edge]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect: HTTP/1.1 and HTTP/2 without TLS. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the edge serves other processes, by mTLS. Port 0 lets the system choose.
    pub mesh_listen: SocketAddr,
    /// Hosts that stand for a link domain, such as `127.0.0.1` for the shared one. Both without a port.
    pub domain_aliases: BTreeMap<String, String>,
    /// Networks (CIDR) or addresses whose `x-forwarded-for` is believed; read from its right.
    pub trusted_proxies: Vec<String>,
    /// A MaxMind database with countries, or cities, that clicks are placed by. Unset: clicks have no place.
    pub places_file: Option<PathBuf>,
    /// `redis://…`, shared by all edges; unset: each edge has only its own cache.
    pub redis: Option<String>,
    /// Short links that one edge remembers, 1 to 10,000,000.
    pub cached_links_max: usize,
    /// How old a remembered link may get while `links` can't answer, in seconds: 30 to 86,400.
    pub stale_seconds_max: u64,
    /// Connections at once; further ones wait to be accepted. 1 to 1,000,000.
    pub connections_max: usize,
    /// Bytes of a request's body or message, 1,024 to 67,108,864.
    pub body_bytes_max: usize,
    /// Bytes that the spool may take on disk before clicks are lost (and counted as lost), at least 1 MiB.
    pub spool_bytes_max: u64,
    /// Origins of browser pages that may call the API; `*` is every origin, without credentials.
    pub cors_origins: Vec<String>,
    /// How long, in seconds, the edge goes on accepting after it has said that it is not ready, so that load balancers
    /// notice. 0 to 300.
    pub unready_seconds: u64,
    /// How long calls in flight may take to finish after that, in seconds. 1 to 3,600.
    pub drain_seconds_max: u64,
    /// How long the spool may take to be shipped after that, in seconds. 0 to 3,600.
    pub ship_seconds_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            mesh_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            domain_aliases: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            places_file: None,
            redis: None,
            cached_links_max: 1_000_000,
            stale_seconds_max: 3_600,
            connections_max: 50_000,
            body_bytes_max: 16 * 1024 * 1024,
            spool_bytes_max: 8 * 1024 * 1024 * 1024,
            cors_origins: vec!["*".to_owned()],
            unready_seconds: 0,
            drain_seconds_max: 20,
            ship_seconds_max: 30,
        }
    }
}
