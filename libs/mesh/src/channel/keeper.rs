//! Keeps an endpoint connected, from the first time that someone wants it until it leaves the mesh or nobody has called it for long.
//!
//! A connection that is too old is replaced before it is given up, and one that can't be replaced stays. What is in flight on it
//! ends in peace.

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::waiting::Waiting;
use crate::backoff::Backoff;
use crate::identity::Identity;
use rand::RngExt as _;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The waits between two attempts to connect (Linkerd's): far apart for one of many that is gone for long.
const RECONNECT_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// The waits while calls have nowhere else to go.
const URGENT_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long calls in flight may take to end after their endpoint has left the mesh.
const LINGER_MAX: Duration = Duration::from_secs(60);
/// How many connections a mesh opens at a time: the first call to a large service must not be a storm.
pub(super) const OPENING_MAX: usize = 64;
/// How much a connection's age varies, so that callers that began together don't reconnect together: a tenth up or down.
const AGE_JITTER: f64 = 0.1;

/// What keepers share.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) identity: Identity,
    pub(super) waiting: Arc<Waiting>,
    pub(super) opening: Arc<Semaphore>,
}

/// Runs until `gone` or nobody wants the endpoint, then until its last call has ended.
pub(super) async fn keep(endpoint: Arc<Endpoint>, means: Means, gone: CancellationToken) {
    let mut keeper = Keeper {
        endpoint: Arc::clone(&endpoint),
        means,
        drivers: JoinSet::new(),
        backoff: Backoff::new(RECONNECT_WAIT.0, RECONNECT_WAIT.1),
        failing: false,
        renewal: None,
    };
    tokio::select! {
        () = gone.cancelled() => {}
        () = keeper.connect() => {}
    }
    endpoint.disconnect();
    endpoint.unwant();
    let ended = async { while keeper.drivers.join_next().await.is_some() {} };
    if tokio::time::timeout(LINGER_MAX, ended).await.is_err() {
        tracing::info!(instance = endpoint.instance, "calls to an instance that left are ended");
    }
}

struct Keeper {
    endpoint: Arc<Endpoint>,
    means: Means,
    drivers: JoinSet<()>,
    backoff: Backoff,
    failing: bool,
    /// When the oldest connection is to be replaced.
    renewal: Option<tokio::time::Instant>,
}

impl Keeper {
    /// Returns when nobody has called the endpoint for the life of a connection.
    async fn connect(&mut self) {
        loop {
            if self.endpoint.sweep() < self.endpoint.connections_wanted() {
                self.open().await;
            } else if self.is_renewal_due() {
                if self.is_idle() {
                    return;
                }
                self.renew().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Waits until something about the connections changes.
    async fn wait(&mut self) {
        let renewal = self.renewal;
        let due = async {
            match renewal {
                Some(renewal) => tokio::time::sleep_until(renewal).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.endpoint.woken() => {}
            Some(_) = self.drivers.join_next() => {}
            () = due => {}
        }
    }

    fn is_renewal_due(&self) -> bool {
        self.renewal.is_some_and(|renewal| renewal <= tokio::time::Instant::now())
    }

    /// Whether no call has ended here since the oldest connection was opened.
    fn is_idle(&self) -> bool {
        let now = Instant::now();
        let silent_for = self.endpoint.load.silent_for(self.endpoint.tick(now));
        let connections = self.endpoint.connections();
        let oldest = connections.iter().map(|it| now.saturating_duration_since(it.opened)).max();
        oldest.is_some_and(|age| silent_for >= age) && self.endpoint.load.pending() == 0
    }

    /// Opens a new connection, then sends nothing more on the oldest.
    async fn renew(&mut self) {
        let connections = self.endpoint.connections();
        let oldest = connections.iter().min_by_key(|connection| connection.opened);
        if self.open().await
            && let Some(oldest) = oldest
        {
            oldest.retire();
            self.endpoint.sweep();
            self.plan_renewal();
        }
    }

    /// Returns whether there is one connection more; if not, some time has passed.
    async fn open(&mut self) -> bool {
        let Means { identity, waiting, opening } = self.means.clone();
        let permit = opening.acquire().await.expect("nobody closes the semaphore");
        // Apart from the keeper's own state, which would hold the room for a handshake as long as the endpoint lives.
        let attempt = Box::pin(Connection::open(self.endpoint.peer(), &identity, &waiting));
        let opened = attempt.await;
        drop(permit);
        match opened {
            Ok((connection, driver)) => {
                if self.failing {
                    tracing::info!(instance = self.endpoint.instance, "connected again");
                }
                self.failing = false;
                self.backoff.reset();
                self.drivers.spawn(driver);
                self.endpoint.connected(connection, Instant::now());
                self.plan_renewal();
                waiting.wake_all();
                true
            }
            Err(error) => {
                // The first failure is news; that it is still so isn't.
                if !self.failing {
                    tracing::warn!(
                        instance = self.endpoint.instance,
                        error = format!("{error:#}"),
                        "an instance can't be reached; trying on"
                    );
                }
                self.failing = true;
                self.endpoint.unconnected();
                self.pause().await;
                false
            }
        }
    }

    /// Waits before the next attempt: less if the instance shows itself, or if calls have nowhere else to go.
    async fn pause(&mut self) {
        let wait = self.backoff.next();
        let urgent = async {
            tokio::time::sleep(URGENT_WAIT_MAX).await;
            self.endpoint.woken().await;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = urgent => {}
            () = self.endpoint.hurried() => {}
        }
    }

    fn plan_renewal(&mut self) {
        let policy = self.endpoint.peers.policy.load();
        let Some(age_max) = policy.connections.age_max else {
            self.renewal = None;
            return;
        };
        let jitter = rand::rng().random_range(1.0 - AGE_JITTER..1.0 + AGE_JITTER);
        let oldest = self.endpoint.connections().iter().map(|connection| connection.opened).min();
        self.renewal = oldest.map(|opened| (opened + age_max.mul_f64(jitter)).into());
    }
}
