//! Links: short links and the domains they live on, for their owners; and what is at a (domain, slug), for the edge.
//!
//! Every change is announced on `link-changes` with the whole new value and a version that only grows. The store is the
//! truth: what the edge remembers, it has from here.

mod config;
mod domain;
mod grpc;
mod relay;
mod store;
mod wire;

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use proto::links::v1::domains_service_server::{self, DomainsServiceServer};
use proto::links::v1::links_service_server::{self, LinksServiceServer};
use proto::links::v1::resolver_service_server::{self, ResolverServiceServer};
use service::{Assembly, Condition, Context, Task};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use store::MIGRATIONS;

use crate::grpc::Api;
use crate::store::{Failure, Store};

/// The service's name: of its identity, its configuration section and its schema.
pub const NAME: &str = "links";

/// How long request ids are kept, as the API says.
const REQUEST_IDS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often older ones are deleted.
const PURGE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The wait before a failed start is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Opens what the service needs. Postgres and the bus may be away: the service is ready once Postgres answers.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    let origin = config.origin()?;
    let shared = config.shared_host()?;
    let database = pg::Database::open(&config.postgres, &mut cx.metrics.lock())
        .context("configuration section `links.postgres`")?;
    let store = Store::new(database, shared);
    let api = Api::new(store.clone(), origin);
    let (ready, is_ready) = watch::channel(false);

    let links =
        LinksServiceServer::new(api.clone()).max_decoding_message_size(grpc::REQUEST_BYTES_MAX);
    let routes = tonic::service::Routes::new(links)
        .add_service(DomainsServiceServer::new(api.clone()))
        .add_service(ResolverServiceServer::new(api));
    let access = mesh::Access::new()
        .allow(links_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(domains_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(resolver_service_server::SERVICE_NAME, &["edge"]);
    let case_sensitive = config.shared_domain_case_sensitive;
    Ok(Assembly {
        routes,
        grpc_services: vec![
            links_service_server::SERVICE_NAME,
            domains_service_server::SERVICE_NAME,
            resolver_service_server::SERVICE_NAME,
        ],
        access,
        tasks: vec![
            shared_domain_task(store.clone(), case_sensitive, ready),
            relay::task(store.clone(), cx.bus),
            purge_task(store),
        ],
        ready: vec![Condition::new("shared-domain", is_ready)],
    })
}

/// Creates the shared domain, however long Postgres is away; then the service is ready.
fn shared_domain_task(store: Store, case_sensitive: bool, ready: watch::Sender<bool>) -> Task {
    Task::new("links-shared-domain", move |stop| async move {
        let mut said = false;
        loop {
            let now_micros = Timestamp::now().as_microsecond();
            match store.ensure_shared_domain(case_sensitive, now_micros).await {
                Ok(()) => {
                    tracing::info!(domain = %store.shared_domain(), "shared domain is there");
                    ready.send_replace(true);
                    return Ok(());
                }
                Err(Failure::Corrupt(why)) => anyhow::bail!("links.shared_domain: {why}"),
                // Once an outage: it is tried again twice a second.
                Err(failure) if !said => {
                    tracing::warn!(failure = ?failure, "shared domain is not there yet");
                }
                Err(_) => {}
            }
            said = true;
            if !waited(&stop, RETRY_INTERVAL).await {
                return Ok(());
            }
        }
    })
}

/// Deletes request ids that are older than promised.
fn purge_task(store: Store) -> Task {
    Task::new("links-request-ids", move |stop| async move {
        while waited(&stop, PURGE_INTERVAL).await {
            let before = Timestamp::now() - REQUEST_IDS_KEPT;
            match store.purge_requests(before.as_microsecond()).await {
                Ok(0) => {}
                Ok(purged) => tracing::info!(purged, "old request ids deleted"),
                Err(failure) => tracing::warn!(failure = ?failure, "old request ids not deleted"),
            }
        }
        Ok(())
    })
}

/// Waits; false if the stop came first.
async fn waited(stop: &CancellationToken, interval: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(interval) => true,
    }
}
