//! Section `[analytics]` of the configuration.

use std::time::Duration;

use serde::Deserialize;
use service::ConfigError;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the service needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's Postgres.
    pub postgres: pg::Config,
    /// How many days counts are kept, and clicks may be late: 1 to 3650.
    #[serde(default = "Config::default_retention_days")]
    pub retention_days: u32,
    /// Folds at the same time, 1 to 64. Each takes a connection to Postgres.
    #[serde(default = "Config::default_folds_in_flight_max")]
    pub folds_in_flight_max: usize,
    /// Memory for the rollups that are being written to, in mebibytes for each partition, 1 to 4096.
    #[serde(default = "Config::default_hot_mebibytes_max")]
    pub hot_mebibytes_max: usize,
}

impl Config {
    /// The defaults, with this Postgres.
    pub fn new(postgres: pg::Config) -> Config {
        Config {
            postgres,
            retention_days: Config::default_retention_days(),
            folds_in_flight_max: Config::default_folds_in_flight_max(),
            hot_mebibytes_max: Config::default_hot_mebibytes_max(),
        }
    }

    /// How long counts are kept.
    pub fn retention(&self) -> Duration {
        DAY * self.retention_days
    }

    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |error| ConfigError::new("analytics.postgres", format!("{error:#}"));
        self.postgres.check().map_err(refused)?;
        let (days, folds) = (1..=3650, 1..=64);
        let checks = [
            ("analytics.retention_days", days.contains(&self.retention_days), "must be 1 to 3650"),
            (
                "analytics.folds_in_flight_max",
                folds.contains(&self.folds_in_flight_max),
                "must be 1 to 64",
            ),
            (
                "analytics.hot_mebibytes_max",
                (1..=4096).contains(&self.hot_mebibytes_max),
                "must be 1 to 4096",
            ),
        ];
        for (key, is_good, why) in checks {
            if !is_good {
                return Err(ConfigError::new(key, why));
            }
        }
        Ok(())
    }

    fn default_retention_days() -> u32 {
        400
    }

    fn default_folds_in_flight_max() -> usize {
        4
    }

    fn default_hot_mebibytes_max() -> usize {
        32
    }
}
