//! The outbox: changes that are committed with their effect in `<schema>.outbox`, and handed on, in order, afterwards.
//!
//! What must stay true:
//! - One relay at a time reads the table, under an advisory lock of its session. When the session ends, however it ends, the
//!   server frees the lock and the next relay goes on.
//! - A row is deleted only after it was published, so it may be published twice (after a crash), and is never lost.
//! - Nothing else deletes rows, so a row whose transaction commits late is still found: there is no cursor to overtake it.
//!
//! A NOTIFY inside the transactions would be simpler, but it makes Postgres commit them one after the other. So whoever
//! commits wakes the relay of its own process, and a relay that does not lead passes the word on to the one that does.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Database;
use crate::partitions::is_identifier;

/// Rows that are published before they are deleted, at most.
pub const BATCH_ROWS_MAX: i64 = 1_000;
/// The longest that a row waits for a relay that was not woken: when a process dies between its commit and its word.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often a relay that does not lead tries to.
const TAKEOVER_INTERVAL: Duration = Duration::from_millis(250);
/// How often the leader makes sure, while it publishes, that its session still lives.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for one statement of the relay, or for its connection.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait after a failure: of the session, or of what publishes.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The outbox of one service. Clones share the wake-up.
#[derive(Debug, Clone)]
pub struct Outbox {
    schema: &'static str,
    wake: Arc<Notify>,
}

/// One change, as it goes on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it goes.
    pub topic: Cow<'static, str>,
    /// What changed.
    pub key: Vec<u8>,
    /// Its whole new value.
    pub value: Vec<u8>,
}

impl Outbox {
    /// The one in `<schema>.outbox`.
    ///
    /// # Panics
    /// If `schema` needs quotes.
    pub fn of(schema: &'static str) -> Self {
        assert!(is_identifier(schema), "not a schema name: {schema:?}");
        Self { schema, wake: Arc::default() }
    }

    /// Adds changes, in this order, to the transaction that makes them. Call [`committed`](Self::committed) afterwards.
    ///
    /// # Errors
    /// As any statement.
    pub async fn append(
        &self,
        transaction: &mut PgConnection,
        changes: Vec<Change>,
    ) -> Result<(), sqlx::Error> {
        let mut topics = Vec::with_capacity(changes.len());
        let mut keys = Vec::with_capacity(changes.len());
        let mut values = Vec::with_capacity(changes.len());
        for Change { topic, key, value } in changes {
            topics.push(topic);
            keys.push(key);
            values.push(value);
        }
        sqlx::query(AssertSqlSafe(format!(
            "insert into {}.outbox (topic, key, value)
             select topic, key, value from unnest($1::text[], $2::bytea[], $3::bytea[])
                 with ordinality as added (topic, key, value, nth)
             order by nth",
            self.schema
        )))
        .bind(topics)
        .bind(keys)
        .bind(values)
        .execute(transaction)
        .await
        .map(drop)
    }

    /// Says that a transaction with changes is committed, so that they go out at once.
    pub fn committed(&self) {
        self.wake.notify_one();
    }

    /// Publishes what is in the table, as long as this process leads, until `stop`. Takes part in the choice of the leader, and
    /// tries again after every failure; what it was publishing at the stop stays in the table.
    pub async fn relay<P, F>(&self, database: Database, stop: impl Future<Output = ()>, publish: P)
    where
        P: Fn(Vec<Change>) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let forever = async {
            let mut failed_before = false;
            loop {
                let failure = match self.session(&database).await {
                    Ok(session) => {
                        failed_before = false;
                        session.run(&self.wake, &database, &publish).await
                    }
                    Err(error) => error,
                };
                // Once an outage: it is retried several times a second.
                if !failed_before {
                    tracing::warn!(schema = self.schema, error = %failure, "outbox relay lost its session");
                }
                failed_before = true;
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        };
        tokio::select! {
            () = stop => {}
            () = forever => {}
        }
    }

    async fn session(&self, database: &Database) -> Result<Session, sqlx::Error> {
        let options = database.primary_options().clone().options([
            // A deletion that a crash undoes is only published again.
            ("synchronous_commit", "off"),
            // A relay that vanished without a word must not keep the lock for hours.
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ]);
        let connection = bounded(options.connect()).await?;
        Ok(Session { connection, schema: self.schema })
    }
}

/// A relay's own connection: it holds the lock, so it must be no pooled one, which would be replaced in silence.
struct Session {
    connection: PgConnection,
    schema: &'static str,
}

impl Session {
    /// Runs until the session fails.
    async fn run<P, F>(mut self, wake: &Notify, database: &Database, publish: &P) -> sqlx::Error
    where
        P: Fn(Vec<Change>) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let follow = async {
            while !self.take_lock().await? {
                if timeout(TAKEOVER_INTERVAL, wake.notified()).await.is_ok() {
                    self.pass_on().await?;
                }
            }
            tracing::info!(schema = self.schema, "outbox relay leads");
            let mut listener = bounded(PgListener::connect_with(database.primary())).await?;
            bounded(listener.listen(&self.channel())).await?;
            loop {
                let (numbers, changes) = self.batch().await?;
                if numbers.is_empty() {
                    tokio::select! {
                        () = wake.notified() => {}
                        heard = listener.try_recv() => { heard?; }
                        () = tokio::time::sleep(POLL_INTERVAL) => {}
                    }
                    continue;
                }
                match self.publish(publish(changes)).await? {
                    Ok(()) => self.delete(&numbers).await?,
                    Err(error) => {
                        tracing::warn!(schema = self.schema, error = %error, "outbox not published");
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                }
            }
        };
        let failure: Result<std::convert::Infallible, sqlx::Error> = follow.await;
        match failure {
            Err(error) => error,
        }
    }

    /// Publishing may wait for as long as the bus is away: meanwhile it is given up as soon as the session is lost, since
    /// another relay leads then.
    async fn publish(
        &mut self,
        publishing: impl Future<Output = anyhow::Result<()>>,
    ) -> Result<anyhow::Result<()>, sqlx::Error> {
        let mut publishing = std::pin::pin!(publishing);
        loop {
            match timeout(PING_INTERVAL, &mut publishing).await {
                Ok(published) => return Ok(published),
                Err(_elapsed) => {
                    bounded(sqlx::query("select 1").execute(&mut self.connection)).await?;
                }
            }
        }
    }

    async fn take_lock(&mut self) -> Result<bool, sqlx::Error> {
        let (taken,): (bool,) = bounded(
            sqlx::query_as("select pg_try_advisory_lock(hashtextextended($1, 0))")
                .bind(format!("{}.outbox", self.schema))
                .fetch_one(&mut self.connection),
        )
        .await?;
        Ok(taken)
    }

    async fn pass_on(&mut self) -> Result<(), sqlx::Error> {
        let notify = sqlx::query("select pg_notify($1, '')").bind(self.channel());
        bounded(notify.execute(&mut self.connection)).await.map(drop)
    }

    async fn batch(&mut self) -> Result<(Vec<i64>, Vec<Change>), sqlx::Error> {
        let rows: Vec<(i64, String, Vec<u8>, Vec<u8>)> = bounded(
            sqlx::query_as(AssertSqlSafe(format!(
                "select seq, topic, key, value from {}.outbox order by seq limit $1",
                self.schema
            )))
            .bind(BATCH_ROWS_MAX)
            .fetch_all(&mut self.connection),
        )
        .await?;
        let change = |topic: String, key, value| Change { topic: topic.into(), key, value };
        Ok(rows
            .into_iter()
            .map(|(seq, topic, key, value)| (seq, change(topic, key, value)))
            .unzip())
    }

    async fn delete(&mut self, numbers: &[i64]) -> Result<(), sqlx::Error> {
        let statement = sqlx::query(AssertSqlSafe(format!(
            "delete from {}.outbox where seq = any($1)",
            self.schema
        )))
        .bind(numbers);
        bounded(statement.execute(&mut self.connection)).await.map(drop)
    }

    fn channel(&self) -> String {
        format!("{}_outbox", self.schema)
    }
}

async fn bounded<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(SESSION_TIMEOUT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
