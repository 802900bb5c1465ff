//! Keeps an endpoint connected, from the first time that someone wants it until it leaves the mesh.

use super::connection::Connection;
use super::connection::Driver;
use super::endpoint::Endpoint;
use super::waiting::Waiting;
use crate::backoff::Backoff;
use crate::identity::Identity;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The waits between two attempts to connect.
const RECONNECT_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long calls in flight may take to end after their endpoint has left the mesh.
const LINGER_MAX: Duration = Duration::from_secs(60);

/// Runs until `gone`, then until the endpoint's last call has ended.
pub(super) async fn keep(
    endpoint: Arc<Endpoint>,
    identity: Identity,
    waiting: Arc<Waiting>,
    gone: CancellationToken,
) {
    let mut drivers: JoinSet<()> = JoinSet::new();
    tokio::select! {
        () = gone.cancelled() => {}
        () = connect_for_ever(&endpoint, &identity, &waiting, &mut drivers) => {}
    }
    endpoint.disconnect();
    let ended = async { while drivers.join_next().await.is_some() {} };
    if tokio::time::timeout(LINGER_MAX, ended).await.is_err() {
        tracing::info!(instance = endpoint.instance, "calls to an instance that left are ended");
    }
}

async fn connect_for_ever(
    endpoint: &Endpoint,
    identity: &Identity,
    waiting: &Arc<Waiting>,
    drivers: &mut JoinSet<()>,
) {
    let mut backoff = Backoff::new(RECONNECT_WAIT.0, RECONNECT_WAIT.1);
    let mut failing = false;
    loop {
        if endpoint.sweep() >= endpoint.connections_wanted() {
            tokio::select! {
                () = endpoint.woken() => {}
                Some(_) = drivers.join_next() => {}
            }
            continue;
        }
        let opened =
            Connection::open(&endpoint.address, &endpoint.service, identity, waiting).await;
        match opened {
            Ok((connection, driver)) => {
                if failing {
                    tracing::info!(instance = endpoint.instance, "connected again");
                }
                failing = false;
                backoff.reset();
                add(endpoint, connection, driver, drivers);
                waiting.wake_all();
            }
            Err(error) => {
                // The first failure is news; that it is still so isn't.
                if !failing {
                    tracing::warn!(
                        instance = endpoint.instance,
                        error = format!("{error:#}"),
                        "an instance can't be reached; trying on"
                    );
                }
                failing = true;
                tokio::select! {
                    () = tokio::time::sleep(backoff.next()) => {}
                    () = endpoint.hurried() => {}
                }
            }
        }
    }
}

fn add(endpoint: &Endpoint, connection: Connection, driver: Driver, drivers: &mut JoinSet<()>) {
    drivers.spawn(driver);
    endpoint.connected(connection, Instant::now());
}
