//! Section `[identity]` of the configuration.

use serde::Deserialize;
use service::ConfigError;

/// What the service needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's Postgres.
    pub postgres: pg::Config,
}

impl Config {
    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |error| ConfigError::new("identity.postgres", format!("{error:#}"));
        self.postgres.check().map_err(refused)
    }
}
