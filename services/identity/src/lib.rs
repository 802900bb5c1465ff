//! Identity: users, how they sign in, workspaces, their members, service accounts and API keys, whom a key or a token stands for, what a
//! user may do where, and the log of all that was done to any of it.
//!
//! The secret of a key or a token is shown once and stored nowhere; what is personal is stored sealed. A revocation is announced on
//! `key-changes`, a change of somebody's memberships on `user-changes`, the end of a session on `session-ends`, so that edges forget
//! what they remember.

mod accounts;
mod config;
mod domain;
mod export;
mod failures;
mod grpc;
mod identified;
mod mail;
mod oidc;
mod passwords;
mod relay;
mod reseal;
mod signer;
mod store;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use proto::identity::v1::api_keys_service_server::{self, ApiKeysServiceServer};
use proto::identity::v1::audit_service_server::{self, AuditServiceServer};
use proto::identity::v1::authentication_service_server::{self, AuthenticationServiceServer};
use proto::identity::v1::invitations_service_server::{self, InvitationsServiceServer};
use proto::identity::v1::json_web_keys_service_server::{self, JsonWebKeysServiceServer};
use proto::identity::v1::members_service_server::{self, MembersServiceServer};
use proto::identity::v1::providers_service_server::{self, ProvidersServiceServer};
use proto::identity::v1::second_factors_service_server::{self, SecondFactorsServiceServer};
use proto::identity::v1::service_accounts_service_server::{self, ServiceAccountsServiceServer};
use proto::identity::v1::sessions_service_server::{self, SessionsServiceServer};
use proto::identity::v1::users_service_server::{self, UsersServiceServer};
use proto::identity::v1::workspaces_service_server::{self, WorkspacesServiceServer};
use seal::Keyring;
use service::{Assembly, Condition, ConfigError, Context, Task};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::{Config, MailConfig, ProviderConfig, TokenConfig};
pub use mail::{Mail, Mailer};
pub use reseal::{Progress, reseal};
pub use store::MIGRATIONS;

use crate::accounts::Accounts;
use crate::failures::Failures;
use crate::grpc::{Api, JsonWebKeys, ProviderSignIns};
use crate::mail::{FolderMailer, Post};
use crate::oidc::Providers;
use crate::passwords::Passwords;
use crate::signer::Signer;
use crate::store::Store;

/// The service's name: of its identity, its configuration section and its schema.
pub const NAME: &str = "identity";

/// How long request ids are kept, as the API says.
const REQUEST_IDS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long those are kept whose responses are sealed, as the API says.
const ANSWERS_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How often older ones are deleted, and what has expired.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);
/// How often the last uses of keys are written: they are shown to the minute.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often failed proofs are written.
const FAILURES_INTERVAL: Duration = Duration::from_secs(1);
/// The wait before Postgres is asked again whether it is there.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Opens what the service needs. Postgres and the bus may be away: the service is ready once Postgres answers. Mails go into a
/// folder.
///
/// # Errors
/// A setting that is refused, the keyring among them.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    let folder = config.mail.folder.clone().unwrap_or_else(|| cx.data.join("mails"));
    assemble_with(config, cx, Arc::new(FolderMailer::new(folder))).await
}

/// As [`assemble`], with another mailer.
///
/// # Errors
/// As [`assemble`].
pub async fn assemble_with(
    config: Config,
    cx: Context,
    mailer: Arc<dyn Mailer>,
) -> anyhow::Result<Assembly> {
    config.check()?;
    let keyring = keyring(&config)?;
    let database = pg::Database::open(&config.postgres, &mut cx.metrics.lock())
        .context("configuration section `identity.postgres`")?;
    let store = Store::new(database, keyring, config.tokens.access_token_life());
    let api = Api::new(store.clone());
    let signer = Signer::new(config.tokens);
    let passwords = Passwords::new(config.passwords_at_once)?;
    let accounts = Accounts::new(store.clone(), passwords, signer.clone(), &mut cx.metrics.lock());
    let failures = accounts.failures.clone();
    let providers = Providers::new(config.providers)?;
    let provider_sign_ins = ProviderSignIns { accounts: accounts.clone(), providers };
    let post = Post { store: store.clone(), mailer, config: config.mail };
    let (ready, is_ready) = watch::channel(false);

    let routes = tonic::service::Routes::new(WorkspacesServiceServer::new(api.clone()))
        .add_service(ApiKeysServiceServer::new(api.clone()))
        .add_service(AuditServiceServer::new(api.clone()))
        .add_service(InvitationsServiceServer::new(api.clone()))
        .add_service(MembersServiceServer::new(api.clone()))
        .add_service(ServiceAccountsServiceServer::new(api.clone()))
        .add_service(AuthenticationServiceServer::new(api.clone()))
        .add_service(UsersServiceServer::new(accounts.clone()))
        .add_service(SessionsServiceServer::new(accounts.clone()))
        .add_service(SecondFactorsServiceServer::new(accounts))
        .add_service(ProvidersServiceServer::new(provider_sign_ins))
        .add_service(JsonWebKeysServiceServer::new(JsonWebKeys::new(store.clone())));
    let access = mesh::Access::new()
        .allow(workspaces_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(api_keys_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(audit_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(invitations_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(members_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(service_accounts_service_server::SERVICE_NAME, &["edge", "operator"])
        .allow(authentication_service_server::SERVICE_NAME, &["edge"])
        .allow(users_service_server::SERVICE_NAME, &["edge"])
        .allow(sessions_service_server::SERVICE_NAME, &["edge"])
        .allow(second_factors_service_server::SERVICE_NAME, &["edge"])
        .allow(providers_service_server::SERVICE_NAME, &["edge"])
        .allow(json_web_keys_service_server::SERVICE_NAME, &["edge"]);
    Ok(Assembly {
        routes,
        grpc_services: vec![
            workspaces_service_server::SERVICE_NAME,
            api_keys_service_server::SERVICE_NAME,
            audit_service_server::SERVICE_NAME,
            invitations_service_server::SERVICE_NAME,
            members_service_server::SERVICE_NAME,
            service_accounts_service_server::SERVICE_NAME,
            authentication_service_server::SERVICE_NAME,
            users_service_server::SERVICE_NAME,
            sessions_service_server::SERVICE_NAME,
            second_factors_service_server::SERVICE_NAME,
            providers_service_server::SERVICE_NAME,
            json_web_keys_service_server::SERVICE_NAME,
        ],
        access,
        tasks: vec![
            ready_task(store.clone(), ready),
            signer.task(store.clone()),
            post.task(),
            relay::task(store.clone(), cx.bus),
            last_use_task(api),
            failures_task(failures, store.clone()),
            purge_task(store),
        ],
        ready: vec![Condition::new("postgres", is_ready)],
    })
}

/// The keys that personal data is sealed with.
fn keyring(config: &Config) -> Result<Keyring, ConfigError> {
    Keyring::open(&config.keyring).map_err(|error| {
        let why = format!("{}: {error}", config.keyring.display());
        ConfigError::new("identity.keyring", why)
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

/// Writes now and then, and at the stop, which proofs have failed.
fn failures_task(failures: Failures, store: Store) -> Task {
    Task::new("identity-failures", move |stop| async move {
        let mut going_on = true;
        while going_on {
            going_on = waited(&stop, FAILURES_INTERVAL).await;
            if let Err(failure) = failures.flush(&store).await {
                tracing::warn!(failure = ?failure, "failed proofs not written");
            }
        }
        Ok(())
    })
}

/// Deletes request ids that are older than promised, and what has expired: at the start, and then again and again.
fn purge_task(store: Store) -> Task {
    Task::new("identity-purge", move |stop| async move {
        loop {
            let now = Timestamp::now();
            let purged = async {
                let requests = now - REQUEST_IDS_KEPT;
                let requests = store.purge_requests(requests.as_microsecond()).await?;
                let answers = store.purge_answers(now - ANSWERS_KEPT).await?;
                Ok::<_, store::Failure>(requests + answers + store.purge_expired(now).await?)
            };
            match purged.await {
                Ok(0) => {}
                Ok(purged) => tracing::info!(purged, "what has expired was deleted"),
                Err(failure) => {
                    tracing::warn!(failure = ?failure, "what has expired was not deleted");
                }
            }
            if !waited(&stop, PURGE_INTERVAL).await {
                return Ok(());
            }
        }
    })
}

/// Waits; false if the stop came first.
async fn waited(stop: &CancellationToken, interval: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(interval) => true,
    }
}
