//! Who a service is: a key, a certificate that names it, and the root that vouches for the others.
//!
//! An identity belongs to a service, not to a process. Its certificate names `spiffe://linkmesh/service/<name>`, and
//! `<name>.linkmesh.internal` for stock clients.

mod authority;
mod name;
mod tls;

pub use authority::LocalAuthority;
pub use name::ServiceName;

use rustls::ClientConfig;
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;

/// The trust domain of every identity.
pub const TRUST_DOMAIN: &str = "linkmesh";
/// The service name under which an operator's command line calls.
pub const OPERATOR: &str = "operator";

/// What a service proves itself with. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    service: ServiceName,
    security: Security,
}

#[derive(Clone)]
pub(crate) enum Security {
    Tls {
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    },
    /// Nobody proves anything: the peer is taken for a service of the same name.
    Plaintext,
}

impl Identity {
    /// An identity without TLS that takes every peer for a service of its own name. For the bench, which compares with a bare
    /// channel; nothing that is configured leads here.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn plaintext_for_bench(service: &str) -> anyhow::Result<Self> {
        Ok(Self { service: ServiceName::parse(service)?, security: Security::Plaintext })
    }

    /// The service that it names.
    #[must_use]
    pub fn service(&self) -> &str {
        self.service.as_str()
    }

    /// As a SPIFFE id.
    #[must_use]
    pub fn spiffe_id(&self) -> String {
        self.service.spiffe_id()
    }

    pub(crate) fn security(&self) -> &Security {
        &self.security
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("service", &self.service).finish_non_exhaustive()
    }
}
