//! Analytics: clicks are folded into rollups, each exactly once, and counted, broken down and watched from there.
//!
//! The modules are public for this crate's tests and for the bench; other services see only what is exported here by name.

mod config;
pub mod consume;
pub mod domain;
mod grpc;
pub mod metrics;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use proto::analytics::v1::aggregator_service_server;
use proto::analytics::v1::aggregator_service_server::AggregatorServiceServer;
use proto::analytics::v1::analytics_service_server;
use proto::analytics::v1::analytics_service_server::AnalyticsServiceServer;
use proto::analytics::v1::salts_service_server;
use proto::analytics::v1::salts_service_server::SaltsServiceServer;
use service::Assembly;
use service::Condition;
use service::Context;
use service::Task;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tonic::service::Routes;

pub use config::Config;
pub use store::MIGRATIONS;

use crate::consume::aggregator::Aggregator;
use crate::consume::folder::Shared;
use crate::consume::lookout;
use crate::consume::tail::Tail;
use crate::domain::agent::Agents;
use crate::domain::click::Window;
use crate::metrics::Metrics;
use crate::store::Store;

/// The service's name: of its identity, its configuration section and its schema.
pub const NAME: &str = "analytics";

/// How often months are made and dropped.
const MONTHS_EVERY: Duration = Duration::from_secs(3600);
/// How often salts that are past their life are destroyed.
const SALTS_EVERY: Duration = Duration::from_secs(60);
/// How soon what failed is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// A fold under way, and the release of leases, take no longer to stop.
const FOLDING_STOPS_WITHIN: Duration = Duration::from_secs(15);

/// Opens what the service needs. Postgres and the bus may be away: the service is ready once Postgres has the months that
/// clicks fall into, and folds once the bus answers.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    let database = pg::Database::open(&config.postgres, &mut cx.metrics.lock())
        .context("configuration section `analytics.postgres`")?;
    let metrics = Metrics::register(&mut cx.metrics.lock());
    let agents = tokio::task::spawn_blocking(Agents::compile).await??;
    let agents = Arc::new(agents);
    let store = Store::new(database);
    let tail = Tail::new(cx.bus.clone(), Arc::clone(&agents), metrics.clone());
    let shared = Arc::new(Shared {
        store: store.clone(),
        bus: cx.bus.clone(),
        agents,
        window: Window { retention: config.retention() },
        metrics,
        in_flight: Semaphore::new(config.folds_in_flight_max),
        hot_bytes_max: config.hot_mebibytes_max << 20,
    });

    let (ready, is_ready) = watch::channel(false);
    Ok(Assembly {
        routes: routes(store.clone(), cx.bus, Arc::clone(&tail)),
        grpc_services: vec![
            analytics_service_server::SERVICE_NAME,
            salts_service_server::SERVICE_NAME,
            aggregator_service_server::SERVICE_NAME,
        ],
        access: mesh::Access::new()
            .allow(analytics_service_server::SERVICE_NAME, &["edge", "operator"])
            .allow(salts_service_server::SERVICE_NAME, &["edge"])
            .allow(aggregator_service_server::SERVICE_NAME, &["operator"]),
        tasks: vec![
            Task::new("analytics-tail", move |stop| async move {
                tail.run(stop).await;
                Ok(())
            }),
            folding_task(shared, cx.instance, is_ready.clone()),
            salts_task(store.clone()),
            months_task(store, config.retention(), ready),
        ],
        ready: vec![Condition::new("months", is_ready)],
    })
}

/// The calls of the service, over a store, a log and the tail of that log, which someone runs.
pub fn routes(store: Store, bus: bus::Bus, tail: Arc<Tail>) -> Routes {
    let analytics = grpc::AnalyticsApi { store: store.clone(), tail };
    let salts = grpc::SaltsApi { store: store.clone() };
    let operator = grpc::AggregatorApi { store, bus };
    Routes::new(AnalyticsServiceServer::new(analytics))
        .add_service(SaltsServiceServer::new(salts))
        .add_service(AggregatorServiceServer::new(operator))
}

/// Folds this instance's share of the partitions, once the months that clicks fall into are there.
fn folding_task(shared: Arc<Shared>, instance: String, mut months: watch::Receiver<bool>) -> Task {
    let task = Task::new("analytics-aggregator", move |stop| async move {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            made = months.wait_for(|made| *made) => { made.context("the months' task ended")?; }
        }
        let (known, _) = watch::channel(false);
        let looking = lookout::run(Arc::clone(&shared), instance.clone(), known, stop.clone());
        let folding = Aggregator::new(shared, &instance).run(stop);
        tokio::join!(looking, folding);
        Ok(())
    });
    task.stop_within(FOLDING_STOPS_WITHIN)
}

/// Makes months ahead and drops old ones; `ready` once the first are there.
fn months_task(store: Store, retention: Duration, ready: watch::Sender<bool>) -> Task {
    Task::new("analytics-months", move |stop| async move {
        loop {
            let wait = match store.keep_months(Timestamp::now(), retention).await {
                Ok(()) => {
                    ready.send_replace(true);
                    MONTHS_EVERY
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "can't make or drop months of rollups");
                    RETRY_WAIT
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    })
}

/// Destroys salts on time, whether or not an edge asks for any.
fn salts_task(store: Store) -> Task {
    Task::new("analytics-salts", move |stop| async move {
        loop {
            match store.destroy_salts(Timestamp::now().as_microsecond()).await {
                Ok(0) => {}
                Ok(destroyed) => tracing::info!(destroyed, "salts destroyed, their 48 h are over"),
                Err(error) => tracing::warn!(%error, "can't destroy old salts"),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(SALTS_EVERY) => {}
            }
        }
    })
}
