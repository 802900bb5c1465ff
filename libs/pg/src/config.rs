//! Where a service's Postgres is. URLs carry passwords, so they are never shown whole.

use std::fmt;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

/// The most connections to one server that may be asked for.
const CONNECTIONS_LIMIT: u32 = 1000;

/// One service's Postgres: a primary and any number of streaming replicas of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `postgres://user:password@host:port/database` of the primary.
    pub primary: String,
    /// The same for each streaming replica; reads go there only when the caller accepts staleness.
    #[serde(default)]
    pub replicas: Vec<String>,
    /// Connections to each server, at most: 1 to 1000.
    #[serde(default = "Config::default_connections_max")]
    pub connections_max: u32,
}

impl Config {
    /// A primary without replicas and the default number of connections.
    pub fn new(primary: impl Into<String>) -> Self {
        Self {
            primary: primary.into(),
            replicas: Vec::new(),
            connections_max: Self::default_connections_max(),
        }
    }

    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// A URL that is none, or `connections_max` outside 1 to 1000.
    pub fn check(&self) -> anyhow::Result<()> {
        let connections_max = self.connections_max;
        ensure!(
            (1..=CONNECTIONS_LIMIT).contains(&connections_max),
            "connections_max must be 1 to {CONNECTIONS_LIMIT}, not {connections_max}"
        );
        for url in self.replicas.iter().chain([&self.primary]) {
            let parsed: Result<PgConnectOptions, _> = url.parse();
            parsed.with_context(|| format!("not a Postgres URL: {}", without_password(url)))?;
        }
        Ok(())
    }

    fn default_connections_max() -> u32 {
        16
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("primary", &without_password(&self.primary))
            .field(
                "replicas",
                &self.replicas.iter().map(|u| without_password(u)).collect::<Vec<_>>(),
            )
            .field("connections_max", &self.connections_max)
            .finish()
    }
}

/// The URL as it may be logged. What is no URL is not shown at all: it may be a bare password.
pub(crate) fn without_password(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else { return "(not a URL)".into() };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "(not a URL)".into();
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let shown =
            format!("{:?}", Config::new("postgres://links:s3cret@db.internal:5432/linkmesh"));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("db.internal"), "{shown}");
        assert_eq!(without_password("s3cret"), "(not a URL)");
    }
}
