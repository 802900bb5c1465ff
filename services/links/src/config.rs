//! Section `[links]` of the configuration.

use serde::Deserialize;
use service::ConfigError;

use crate::domain::Host;
use crate::wire::Origin;

/// What the service needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's Postgres.
    pub postgres: pg::Config,
    /// The host of links that name no domain, which all workspaces share: lower case, without port. Never a workspace's own.
    #[serde(default = "Config::default_shared_domain")]
    pub shared_domain: String,
    /// Whether the shared domain tells slugs apart by case. Can't be changed once the domain was created.
    #[serde(default)]
    pub shared_domain_case_sensitive: bool,
    /// `http` or `https`: how short links are shown.
    #[serde(default = "Config::default_short_uri_scheme")]
    pub short_uri_scheme: String,
    /// The port that short links are shown with; absent: the scheme's own.
    #[serde(default)]
    pub short_uri_port: Option<u16>,
}

impl Config {
    /// The defaults, with this Postgres.
    pub fn new(postgres: pg::Config) -> Self {
        Self {
            postgres,
            shared_domain: Self::default_shared_domain(),
            shared_domain_case_sensitive: false,
            short_uri_scheme: Self::default_short_uri_scheme(),
            short_uri_port: None,
        }
    }

    fn default_shared_domain() -> String {
        "localhost".to_owned()
    }

    fn default_short_uri_scheme() -> String {
        "https".to_owned()
    }

    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |error| ConfigError::new("links.postgres", format!("{error:#}"));
        self.postgres.check().map_err(refused)?;
        self.shared_host()?;
        self.origin()?;
        Ok(())
    }

    /// The shared domain, checked.
    pub(crate) fn shared_host(&self) -> Result<Host, ConfigError> {
        Host::parse_any("shared_domain", &self.shared_domain)
            .map_err(|violation| ConfigError::new("links.shared_domain", violation.why))
    }

    /// How short links are shown, checked.
    pub(crate) fn origin(&self) -> Result<Origin, ConfigError> {
        let Some(scheme) =
            ["http", "https"].into_iter().find(|scheme| *scheme == self.short_uri_scheme)
        else {
            return Err(ConfigError::new("links.short_uri_scheme", "must be `http` or `https`"));
        };
        if self.short_uri_port == Some(0) {
            return Err(ConfigError::new("links.short_uri_port", "must be 1 to 65535"));
        }
        Ok(Origin { scheme, port: self.short_uri_port })
    }
}
