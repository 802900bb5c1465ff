//! L2: Redis, shared by all processes. It may be slow, wrong or away: no call waits for it longer than
//! [`OPERATION_TIMEOUT`], and after a failure it is left alone for [`PAUSE`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use redis::aio::MultiplexedConnection;

use crate::entry::ORDER_BYTES;

/// How long one look-up or one batch of writes may take, the wait for a connection included.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_millis(50);
/// How long L2 is skipped after it failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections of a process.
const CONNECTIONS_MAX: u32 = 16;
/// How long a connection may take to be made; nobody waits for that but the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Writes that go out in one round trip.
const BATCH_MAX: usize = 256;

/// Sets a key unless what it holds is newer: version and read time are leading digits, so text compares as they do.
const SET_IF_NEWER: &str = "local held = redis.call('GET', KEYS[1]) \
    if held and string.sub(held, 1, ARGV[3]) > string.sub(ARGV[1], 1, ARGV[3]) then return 0 end \
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1";

/// The Redis that caches share. Cheap to clone.
#[derive(Clone)]
pub struct L2(Arc<Inner>);

struct Inner {
    pool: bb8::Pool<Connections>,
    failures: Arc<AtomicU64>,
    started: Instant,
    /// Milliseconds after `started` until which L2 is skipped.
    paused_until: AtomicU64,
}

/// Why L2 can't be used at all. What happens later is no error: L2 is skipped then.
#[derive(Debug, thiserror::Error)]
#[error("not a Redis URI: {0}")]
pub struct L2Error(String);

/// A write: key, encoded entry, and how long Redis keeps it.
pub(crate) struct Write {
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) keep: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {OPERATION_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("no connection: {0}")]
    Pool(#[from] bb8::RunError<redis::RedisError>),
}

impl L2 {
    /// A pool for `redis://…` or `rediss://…`. Connects when it is first needed, so a Redis that is away delays no start.
    ///
    /// # Errors
    /// If the URI is none. Must be called within a tokio runtime.
    pub fn open(uri: &str) -> Result<Self, L2Error> {
        let client = redis::Client::open(uri).map_err(|error| L2Error(error.to_string()))?;
        let failures = Arc::new(AtomicU64::new(0));
        let pool = bb8::Pool::builder()
            .max_size(CONNECTIONS_MAX)
            .connection_timeout(CONNECT_TIMEOUT)
            .build_unchecked(Connections { client, failures: Arc::clone(&failures) });
        Ok(Self(Arc::new(Inner {
            pool,
            failures,
            started: Instant::now(),
            paused_until: AtomicU64::new(0),
        })))
    }

    /// What Redis holds under `key`; `None` also if it holds nothing or doesn't answer in time.
    pub(crate) async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.is_paused() {
            return None;
        }
        let get = async {
            let mut connection = self.0.pool.get().await?;
            let mut command = redis::cmd("GET");
            Ok(command.arg(key).query_async::<Option<Vec<u8>>>(&mut connection.inner).await?)
        };
        self.guard(get).await.flatten()
    }

    /// Offers entries; Redis keeps each unless it holds a newer one. Gives up what can't be written in time: entries carry
    /// their read time, so a write that is missing costs a read and never an old answer.
    pub(crate) async fn set_if_newer(&self, writes: &[Write]) {
        for batch in writes.chunks(BATCH_MAX) {
            if self.is_paused() {
                return;
            }
            let mut pipeline = redis::pipe();
            for write in batch {
                let keep_millis = u64::try_from(write.keep.as_millis()).unwrap_or(u64::MAX).max(1);
                let command = pipeline.cmd("EVAL").arg(SET_IF_NEWER).arg(1).arg(&write.key);
                command.arg(&write.bytes).arg(keep_millis).arg(ORDER_BYTES).ignore();
            }
            let set = async {
                let mut connection = self.0.pool.get().await?;
                Ok(pipeline.query_async::<()>(&mut connection.inner).await?)
            };
            if self.guard(set).await.is_none() {
                return;
            }
        }
    }

    async fn guard<T>(&self, operation: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let outcome = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
        match outcome.unwrap_or(Err(Failure::Timeout)) {
            Ok(value) => Some(value),
            Err(failure) => {
                self.0.failures.fetch_add(1, Ordering::Relaxed);
                let until = self.0.started.elapsed() + PAUSE;
                let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                let before = self.0.paused_until.swap(until, Ordering::Relaxed);
                // Once for each pause, not for each call that was under way.
                if before.saturating_add(1_000) < until {
                    tracing::warn!(error = %failure, pause = ?PAUSE, "the shared cache is skipped");
                }
                None
            }
        }
    }

    fn is_paused(&self) -> bool {
        let paused_until = self.0.paused_until.load(Ordering::Relaxed);
        paused_until > 0 && self.0.started.elapsed() < Duration::from_millis(paused_until)
    }
}

impl fmt::Debug for L2 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("L2").field("pool", &self.0.pool.state()).finish_non_exhaustive()
    }
}

/// Makes the pool's connections. One made before the latest failure is not used again: what broke one broke them all.
struct Connections {
    client: redis::Client,
    failures: Arc<AtomicU64>,
}

struct Connection {
    inner: MultiplexedConnection,
    failures: u64,
}

impl bb8::ManageConnection for Connections {
    type Connection = Connection;
    type Error = redis::RedisError;

    async fn connect(&self) -> Result<Connection, redis::RedisError> {
        let failures = self.failures.load(Ordering::Relaxed);
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(OPERATION_TIMEOUT));
        let inner = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Connection { inner, failures })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), redis::RedisError> {
        if connection.failures == self.failures.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err((redis::ErrorKind::Io, "made before the latest failure").into())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.failures != self.failures.load(Ordering::Relaxed)
    }
}
