//! Section `[identity]` of the configuration.

use serde::Deserialize;

/// What the service needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's Postgres.
    pub postgres: pg::Config,
}
