//! One service's database: its pools, opened lazily so that a service starts while Postgres is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::config::without_password;
use crate::metrics::{Connections, QueryDurations};
use crate::replicas::{Consistency, Replicas};
use crate::{Config, Lsn};

/// The longest wait for a connection to the primary.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that one statement may run on the server.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for a lock within a statement.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// A transaction that its client leaves idle for so long is ended by the server, and its locks with it.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A replica is a convenience: when it has no connection by then, the primary is asked instead.
const REPLICA_ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// Connections are renewed so that a failover or a change of address is followed.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// A handle to one service's Postgres; clones share the pools.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    primary: PgPool,
    primary_options: PgConnectOptions,
    replicas: Replicas,
    durations: QueryDurations,
}

impl Database {
    /// Checks the configuration and prepares the pools; connects at the first query. Needs a Tokio runtime.
    ///
    /// # Errors
    /// A URL that is none, or `connections_max` outside 1 to 1000.
    pub fn open(config: &Config, registry: &mut Registry) -> anyhow::Result<Self> {
        config.check()?;
        let connections_max = config.connections_max;
        let primary_options = connect_options(&config.primary)?;
        let primary = pool(connections_max, ACQUIRE_TIMEOUT, primary_options.clone());
        let mut replicas = Vec::with_capacity(config.replicas.len());
        for url in &config.replicas {
            replicas.push(pool(connections_max, REPLICA_ACQUIRE_TIMEOUT, connect_options(url)?));
        }

        let mut pools = vec![("primary".to_owned(), primary.clone())];
        for (index, pool) in replicas.iter().enumerate() {
            pools.push((format!("replica-{}", index + 1), pool.clone()));
        }
        Connections::register(pools, registry);
        let durations = QueryDurations::register(registry);
        let replicas = Replicas::new(primary.clone(), replicas);
        Ok(Self { inner: Arc::new(Inner { primary, primary_options, replicas, durations }) })
    }

    /// The primary: every write, and every read that must see the last write.
    pub fn primary(&self) -> &PgPool {
        &self.inner.primary
    }

    /// The server that may answer a read: a replica if it is known to satisfy `consistency`, else the primary.
    /// Never waits longer for a replica's word than half a second.
    pub async fn reader(&self, consistency: &Consistency) -> &PgPool {
        self.inner.replicas.choose(consistency).await.unwrap_or(&self.inner.primary)
    }

    /// The token of everything committed so far: ask for it after a write, hand it to the writer, and
    /// [`Consistency::AtLeast`] makes a later read see that write on whatever server.
    ///
    /// # Errors
    /// As any query.
    pub async fn token(&self) -> Result<Lsn, sqlx::Error> {
        self.observe("wal_position", crate::replicas::written(&self.inner.primary)).await
    }

    /// Runs a future and records its duration as `db_query_duration_seconds{query}`. A cancelled query records nothing.
    pub async fn observe<F: Future>(&self, query: &'static str, future: F) -> F::Output {
        let started = Instant::now();
        let output = future.await;
        self.inner.durations.observe(query, started.elapsed().as_secs_f64());
        output
    }

    /// True if the primary answers a trivial query in time; for readiness.
    pub async fn is_reachable(&self) -> bool {
        sqlx::query("SELECT 1").execute(self.primary()).await.is_ok()
    }

    /// Closes every connection, after those in use have come back.
    pub async fn close(&self) {
        self.inner.primary.close().await;
        self.inner.replicas.close().await;
    }

    /// How to connect to the primary outside the pool, for what needs a session with other limits.
    pub(crate) fn primary_options(&self) -> &PgConnectOptions {
        &self.inner.primary_options
    }
}

fn connect_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let options: PgConnectOptions =
        url.parse().with_context(|| format!("not a Postgres URL: {}", without_password(url)))?;
    let milliseconds = |limit: Duration| limit.as_millis().to_string();
    Ok(options.application_name("linkmesh").options([
        ("statement_timeout", milliseconds(STATEMENT_TIMEOUT)),
        ("lock_timeout", milliseconds(LOCK_TIMEOUT)),
        ("idle_in_transaction_session_timeout", milliseconds(IDLE_IN_TRANSACTION_TIMEOUT)),
    ]))
}

fn pool(connections_max: u32, acquire_timeout: Duration, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(acquire_timeout)
        .max_lifetime(CONNECTION_AGE_MAX)
        .idle_timeout(CONNECTION_IDLE_MAX)
        .connect_lazy_with(options)
}
