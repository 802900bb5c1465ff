//! The buckets that all edges share, in Redis. One script decides about all limits of a request, by Redis's own clock.
//!
//! Nobody waits for a Redis that is away: a request is answered within [`Options::wait_max`], and from the first that was not,
//! nobody asks until one task of this process has found that Redis answers in time again.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::limits::rules::RULES_MAX;
use crate::limits::rules::Rule;

/// How long a connection may take to be made; only one task waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at a Redis that is away, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A bucket that is only there to be taken from, to see whether Redis can: it always has room, and is forgotten at once.
const PROBE: &str = "limit:{probe}:0";
const PROBE_INTERVAL_MICROS: u64 = 1;
const PROBE_BURST_MICROS: u64 = 1_000_000;
/// How long Redis must have answered for the pause to be the shortest again.
const STEADY: Duration = Duration::from_secs(10);

/// What a store is opened with.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// `redis://…` or `rediss://…`.
    pub(super) uri: String,
    /// How long a request waits.
    pub(super) wait_max: Duration,
    /// How much longer than it matters a bucket is kept.
    pub(super) keep_extra: Duration,
}

/// The way to Redis.
pub(super) struct Store {
    options: Options,
    /// As the script reads it.
    keep_extra: String,
    client: redis::Client,
    take: Script,
    give_back: Script,
    /// None while Redis is away.
    live: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
    pub(super) metrics: StoreMetrics,
}

/// What is seen from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreMetrics {
    /// 1 while this edge decides alone.
    pub(super) is_local: Gauge,
    pub(super) losses: Counter,
}

/// What Redis decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decided {
    /// The place of the limit that has no room for longest, and for how long.
    pub(super) refused: Option<(usize, Duration)>,
    /// How many requests were let in; none if one was refused.
    pub(super) granted: u32,
    /// For each limit, how far ahead of now the next request after those is due.
    pub(super) ahead: [Duration; RULES_MAX],
}

/// A bucket that is to be taken from; times are in microseconds.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) bucket: String,
    /// Between two requests, and of a whole burst.
    pub(super) interval: u64,
    pub(super) burst: u64,
}

impl Decided {
    /// One request that was let in under one limit, whose next is due so far ahead.
    pub(super) fn one(ahead: Duration) -> Self {
        let mut all = [Duration::ZERO; RULES_MAX];
        all[0] = ahead;
        Self { refused: None, granted: 1, ahead: all }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI may hold a password.
        formatter.debug_struct("Store").field("is_live", &self.is_live()).finish_non_exhaustive()
    }
}

impl Store {
    /// Connects when [`run`](Self::run) does: a Redis that is away delays no start.
    ///
    /// # Errors
    /// A URI that is none.
    pub(super) fn open(options: Options) -> anyhow::Result<Self> {
        let metrics = StoreMetrics::default();
        metrics.is_local.set(1);
        Ok(Self {
            client: redis::Client::open(options.uri.as_str())?,
            keep_extra: options.keep_extra.as_millis().to_string(),
            options,
            take: Script::new(include_str!("take.lua")),
            give_back: Script::new(include_str!("give_back.lua")),
            live: ArcSwapOption::empty(),
            lost: Notify::new(),
            metrics,
        })
    }

    /// How long a request waits.
    pub(super) fn wait_max(&self) -> Duration {
        self.options.wait_max
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.load().is_some()
    }

    /// Takes requests from every bucket or from none, as many of those that are asked for as all have room for; `None` if Redis does
    /// not say in time, or is away. `now` stands for its clock if it is given.
    pub(super) async fn take(
        &self,
        buckets: impl Iterator<Item = Ask>,
        requests: u32,
        now: Option<Duration>,
    ) -> Option<Decided> {
        let live = self.live.load_full()?;
        let mut call = self.take.prepare_invoke();
        let now = now.map_or_else(String::new, |now| now.as_micros().to_string());
        call.arg(now).arg(self.keep_extra.as_str()).arg(requests);
        let mut count = 0;
        for Ask { bucket, interval, burst } in buckets {
            call.key(bucket).arg(interval).arg(burst);
            count += 1;
        }
        let mut connection = MultiplexedConnection::clone(&live);
        let asked = call.invoke_async::<Vec<u64>>(&mut connection);
        let said = self.in_time(&live, asked).await?;
        let [wait, last, granted, said @ ..] = said.as_slice() else { return None };
        let last = usize::try_from(*last).ok()?.checked_sub(1);
        let granted = u32::try_from(*granted).ok()?;
        let is_whole =
            said.len() == count && granted <= requests && last.is_none() == (granted > 0);
        if !is_whole || last.is_some_and(|last| last >= count) {
            return None;
        }
        let mut ahead = [Duration::ZERO; RULES_MAX];
        for (ahead, said) in ahead.iter_mut().zip(said) {
            *ahead = Duration::from_micros(*said);
        }
        let refused = last.map(|last| (last, Duration::from_micros(*wait)));
        Some(Decided { refused, granted, ahead })
    }

    /// Gives a request back; if that fails, the caller has one less for a while.
    pub(super) async fn give_back(&self, key: &str, rule: &Rule) {
        let Some(live) = self.live.load_full() else { return };
        let mut call = self.give_back.key(key);
        call.arg(rule.micros().0);
        let mut connection = MultiplexedConnection::clone(&live);
        self.in_time(&live, call.invoke_async::<u64>(&mut connection)).await;
    }

    async fn in_time<T>(
        &self,
        live: &Arc<MultiplexedConnection>,
        asked: impl Future<Output = redis::RedisResult<T>>,
    ) -> Option<T> {
        let why = match tokio::time::timeout(self.options.wait_max, asked).await {
            Ok(Ok(said)) => return Some(said),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.options.wait_max),
        };
        // Of all that wait only the first says so, and nobody takes a newer connection away.
        let current = Some(Arc::clone(live));
        let before = self.live.compare_and_swap(&current, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, live)) {
            self.metrics.is_local.set(1);
            self.metrics.losses.inc();
            tracing::info!(why, "Redis is not asked for limits until it answers in time again");
            self.lost.notify_one();
        }
        None
    }

    /// Looks for Redis whenever it is away, until `stop`.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut pause = PAUSE_MIN;
        let mut is_said = false;
        loop {
            match stop.run_until_cancelled(self.connect()).await {
                None => return,
                Some(Ok(connection)) => {
                    self.live.store(Some(Arc::new(connection)));
                    self.metrics.is_local.set(0);
                    if is_said {
                        tracing::info!("limits are shared with the other edges again");
                    }
                    is_said = false;
                    let since = Instant::now();
                    if stop.run_until_cancelled(self.lost.notified()).await.is_none() {
                        return;
                    }
                    if since.elapsed() >= STEADY {
                        pause = PAUSE_MIN;
                        continue;
                    }
                }
                Some(Err(why)) => {
                    if !is_said {
                        let why = format!("{why:#}");
                        tracing::warn!(
                            why,
                            "Redis is away: this edge keeps to its share of limits"
                        );
                    }
                    is_said = true;
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A connection whose server decides in time.
    pub(super) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
        for script in [&self.take, &self.give_back] {
            let load = script.load_async(&mut connection);
            tokio::time::timeout(CONNECT_TIMEOUT, load).await??;
        }
        // One that only reads, or is full, answers to a PING.
        let mut probe = self.take.key(PROBE);
        probe.arg("").arg(0).arg(1).arg(PROBE_INTERVAL_MICROS).arg(PROBE_BURST_MICROS);
        let probing = probe.invoke_async::<Vec<u64>>(&mut connection);
        tokio::time::timeout(self.options.wait_max, probing).await??;
        Ok(connection)
    }
}
