//! Section `[control]` of the configuration.

use serde::Deserialize;
use service::ConfigError;

/// What the service needs to know.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Config {
    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
