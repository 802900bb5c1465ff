//! Where a running host can be reached.

use std::net::SocketAddr;

/// The addresses of a host that has started, once every service in it is ready.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The admin listener: `/metrics`, `/livez`, `/readyz`.
    pub admin: SocketAddr,
    /// Each service's mesh listener, in the order in which they were added.
    pub services: Vec<(&'static str, SocketAddr)>,
}
