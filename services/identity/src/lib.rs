//! Identity: workspaces, their members, service accounts and API keys, whom a key stands for, what a user may do where, and the log
//! of all that was done to any of it.
//!
//! The secret of a key is shown once and stored nowhere. A revocation is announced on `key-changes`, a change of
//! somebody's memberships on `user-changes`, so that edges forget what they remember.

mod config;
mod domain;
mod grpc;
mod relay;
mod store;
mod wire;

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use proto::identity::v1::api_keys_service_server::{self, ApiKeysServiceServer};
use proto::identity::v1::audit_service_server::{self, AuditServiceServer};
use proto::identity::v1::authentication_service_server::{self, AuthenticationServiceServer};
use proto::identity::v1::members_service_server::{self, MembersServiceServer};
use proto::identity::v1::service_accounts_service_server::{self, ServiceAccountsServiceServer};
use proto::identity::v1::workspaces_service_server::{self, WorkspacesServiceServer};
use service::{Assembly, Condition, Context, Task};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use store::MIGRATIONS;

use crate::grpc::Api;
use crate::store::Store;

/// The service's name: of its identity, its configuration section and its schema.
pub const NAME: &str = "identity";

/// How long request ids are kept, as the API says.
const REQUEST_IDS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often older ones are deleted.
const PURGE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How often the last uses of keys are written: they are shown to the minute.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// The wait before Postgres is asked again whether it is there.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Opens what the service needs. Postgres and the bus may be away: the service is ready once Postgres answers.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    let database = pg::Database::open(&config.postgres, &mut cx.metrics.lock())
        .context("configuration section `identity.postgres`")?;
    let store = Store::new(database);
    let api = Api::new(store.clone());
    let (ready, is_ready) = watch::channel(false);

    let routes = tonic::service::Routes::new(WorkspacesServiceServer::new(api.clone()))
        .add_service(ApiKeysServiceServer::new(api.clone()))
        .add_service(AuditServiceServer::new(api.clone()))
        .add_service(MembersServiceServer::new(api.clone()))
        .add_service(ServiceAccountsServiceServer::new(api.clone()))
        .add_service(AuthenticationServiceServer::new(api.clone()));
    let access = mesh::Access::new()
        .allow(workspaces_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(api_keys_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(audit_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(members_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(service_accounts_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(authentication_service_server::SERVICE_NAME, &["edge"]);
    Ok(Assembly {
        routes,
        grpc_services: vec![
            workspaces_service_server::SERVICE_NAME,
            api_keys_service_server::SERVICE_NAME,
            audit_service_server::SERVICE_NAME,
            members_service_server::SERVICE_NAME,
            service_accounts_service_server::SERVICE_NAME,
            authentication_service_server::SERVICE_NAME,
        ],
        access,
        tasks: vec![
            ready_task(store.clone(), ready),
            relay::task(store.clone(), cx.bus),
            last_use_task(api),
            purge_task(store),
        ],
        ready: vec![Condition::new("postgres", is_ready)],
    })
}

/// Waits for Postgres, once: a service without it still answers that its store is unavailable.
fn ready_task(store: Store, ready: watch::Sender<bool>) -> Task {
    Task::new("identity-postgres", move |stop| async move {
        while !store.database.is_reachable().await {
            if !waited(&stop, RETRY_INTERVAL).await {
                return Ok(());
            }
        }
        ready.send_replace(true);
        Ok(())
    })
}

/// Writes the last uses of keys now and then, and at the stop.
fn last_use_task(api: Api) -> Task {
    Task::new("identity-last-uses", move |stop| async move {
        let mut going_on = true;
        while going_on {
            going_on = waited(&stop, FLUSH_INTERVAL).await;
            if let Err(failure) = api.flush_last_uses().await {
                tracing::warn!(failure = ?failure, "last uses not written");
            }
        }
        Ok(())
    })
}

/// Deletes request ids that are older than promised.
fn purge_task(store: Store) -> Task {
    Task::new("identity-request-ids", move |stop| async move {
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
