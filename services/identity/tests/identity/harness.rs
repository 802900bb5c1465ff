//! One identity service in a host of its own, and clients that call it as the edge and the operator do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Start};
use mesh::{LocalAuthority, Mesh, MeshOptions};
use prometheus_client::registry::Registry;
use proto::common::v1::{Role, Scope, Tier};
use proto::identity::v1::api_keys_service_client::ApiKeysServiceClient;
use proto::identity::v1::audit_service_client::AuditServiceClient;
use proto::identity::v1::authentication_service_client::AuthenticationServiceClient;
use proto::identity::v1::invitations_service_client::InvitationsServiceClient;
use proto::identity::v1::members_service_client::MembersServiceClient;
use proto::identity::v1::service_accounts_service_client::ServiceAccountsServiceClient;
use proto::identity::v1::workspaces_service_client::WorkspacesServiceClient;
use proto::identity::v1::{
    ApiKey, AuthenticateRequest, AuthenticateResponse, CreateApiKeyRequest, CreateApiKeyResponse,
    CreateWorkspaceRequest, GetUserGrantsRequest, GetUserGrantsResponse, Workspace,
};
use rpc::{ApiKeyId, Caller, Grant, Permissions, Principal, SessionId, UserId, WorkspaceId};
use service::{Host, HostConfig, MetricsRegistry};
use stack::TestDatabase;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

/// Longer than any of it takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Service {
    pub(super) bus: Bus,
    metrics: MetricsRegistry,
    pub(super) database: TestDatabase,
    /// Where mails are written.
    pub(super) mails: PathBuf,
    /// The keys that personal data is sealed with.
    pub(super) keyring: PathBuf,
    pub(super) edge: Mesh,
    operator: Mesh,
    stop: CancellationToken,
    host: JoinHandle<anyhow::Result<()>>,
    pub(super) folder: TempDir,
}

impl Service {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| (), None).await
    }

    /// With other settings, or another mailer than the folder.
    pub(super) async fn start_with(
        configure: impl FnOnce(&mut identity::Config),
        mailer: Option<Arc<dyn identity::Mailer>>,
    ) -> Self {
        let schema = (identity::NAME, &identity::MIGRATIONS);
        let database = TestDatabase::migrated(&[schema]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self::start_on(database, folder, configure, mailer).await
    }

    /// On what an earlier one has left.
    #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
    pub(super) async fn start_on(
        database: TestDatabase,
        folder: TempDir,
        configure: impl FnOnce(&mut identity::Config),
        mailer: Option<Arc<dyn identity::Mailer>>,
    ) -> Self {
        let authority = LocalAuthority::open_or_create(&folder.path().join("authority")).unwrap();
        let registry = mesh::registry::open("memory:").unwrap();
        let mut config = HostConfig::default();
        config.host.data = folder.path().to_owned();
        config.host.admin_listen = "127.0.0.1:0".parse().unwrap();
        config.host.instance = Some("identity-test".to_owned());
        let (give_bus, bus) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let keyring = folder.path().join("keyring.toml");
        seal::Keyring::open_or_create(&keyring).unwrap();
        let mails = folder.path().join("mails");
        let mut identity_config = identity::Config::new(database.config(), &keyring);
        identity_config.mail.folder = Some(mails.clone());
        configure(&mut identity_config);
        let stop = CancellationToken::new();
        let host = Host::new(config, "test")
            .with_registry(registry.clone())
            .add(identity::NAME, "127.0.0.1:0".parse().unwrap(), async move |cx| {
                drop(give_bus.send((cx.bus.clone(), cx.metrics.clone())));
                match mailer {
                    Some(mailer) => identity::assemble_with(identity_config, cx, mailer).await,
                    None => identity::assemble(identity_config, cx).await,
                }
            })
            .tell_when_ready(ready);
        let host = tokio::spawn(host.run(stop.clone()));
        let given = tokio::time::timeout(PATIENCE, bus).await.unwrap();
        let (bus, metrics) = given.expect("the host assembles");
        let mut service = Self {
            bus,
            metrics,
            edge: mesh_of(&authority, &registry, "edge"),
            operator: mesh_of(&authority, &registry, "operator"),
            database,
            mails,
            keyring,
            stop,
            host,
            folder,
        };
        if tokio::time::timeout(PATIENCE, is_ready).await.is_ok_and(|told| told.is_ok()) {
            return service;
        }
        service.stop.cancel();
        panic!("the host is not ready: {:?}", (&mut service.host).await);
    }

    pub(super) fn api_keys(&self) -> ApiKeysServiceClient<Mesh> {
        ApiKeysServiceClient::new(self.edge.clone())
    }

    pub(super) fn workspaces(&self) -> WorkspacesServiceClient<Mesh> {
        WorkspacesServiceClient::new(self.edge.clone())
    }

    pub(super) fn as_operator(&self) -> WorkspacesServiceClient<Mesh> {
        WorkspacesServiceClient::new(self.operator.clone())
    }

    pub(super) fn keys_as_operator(&self) -> ApiKeysServiceClient<Mesh> {
        ApiKeysServiceClient::new(self.operator.clone())
    }

    pub(super) async fn authenticate(&self, key: &str) -> AuthenticateResponse {
        let request = AuthenticateRequest { api_key: key.to_owned() };
        let mut client = AuthenticationServiceClient::new(self.edge.clone());
        client.authenticate(request).await.unwrap().into_inner()
    }

    pub(super) async fn authenticate_as_operator(&self, key: &str) -> Result<(), Status> {
        let request = AuthenticateRequest { api_key: key.to_owned() };
        let mut client = AuthenticationServiceClient::new(self.operator.clone());
        client.authenticate(request).await.map(drop)
    }

    pub(super) fn members(&self) -> MembersServiceClient<Mesh> {
        MembersServiceClient::new(self.edge.clone())
    }

    pub(super) fn invitations(&self) -> InvitationsServiceClient<Mesh> {
        InvitationsServiceClient::new(self.edge.clone())
    }

    pub(super) fn invitations_as_operator(&self) -> InvitationsServiceClient<Mesh> {
        InvitationsServiceClient::new(self.operator.clone())
    }

    pub(super) fn service_accounts(&self) -> ServiceAccountsServiceClient<Mesh> {
        ServiceAccountsServiceClient::new(self.edge.clone())
    }

    pub(super) fn audit(&self) -> AuditServiceClient<Mesh> {
        AuditServiceClient::new(self.edge.clone())
    }

    pub(super) fn audit_as_operator(&self) -> AuditServiceClient<Mesh> {
        AuditServiceClient::new(self.operator.clone())
    }

    /// What the service counts, as a scraper reads it.
    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.metrics.lock())
            .unwrap();
        text
    }

    /// The way that the edge calls.
    pub(super) fn edge(&self) -> Mesh {
        self.edge.clone()
    }

    /// What the edge learns of a user.
    pub(super) async fn grants(&self, user: UserId) -> GetUserGrantsResponse {
        let request = GetUserGrantsRequest { user_id: user.as_bytes().to_vec() };
        let mut client = AuthenticationServiceClient::new(self.edge.clone());
        client.get_user_grants(request).await.unwrap().into_inner()
    }

    /// Somebody who is signed in, with an account and no workspace.
    pub(super) async fn user(&self) -> Principal {
        let user = UserId::new();
        sqlx::query("insert into identity.users (id, create_micros, update_micros, version) values ($1, 0, 0, 1)")
            .bind(user.uuid())
            .execute(self.database.open().primary())
            .await
            .unwrap();
        let caller = Caller::User { user, session: SessionId::new() };
        Principal { caller, grants: Vec::new(), tier: Tier::Free }
    }

    /// The same, as the edge would say it now.
    pub(super) async fn refreshed(&self, principal: &Principal) -> Principal {
        let answer = self.grants(principal.user().unwrap()).await;
        let grants = Grant::read(&answer.grants).unwrap();
        Principal { caller: principal.caller, grants, tier: answer.tier() }
    }

    /// A new workspace of somebody who is signed in and owns it.
    pub(super) async fn signed_in_owner(&self) -> Principal {
        let user = self.user().await;
        let message = CreateWorkspaceRequest {
            workspace: Some(Workspace { display_name: "Acme".to_owned(), ..Workspace::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        self.workspaces().create_workspace(by(&user, message)).await.unwrap();
        self.refreshed(&user).await
    }

    /// Somebody else who is a member of a workspace.
    pub(super) async fn member_of(&self, workspace: WorkspaceId, role: Role) -> Principal {
        let user = self.user().await;
        sqlx::query(
            "insert into identity.members (workspace_id, user_id, role, create_micros, update_micros)
             values ($1, $2, $3, 0, 0)",
        )
        .bind(workspace.uuid())
        .bind(user.user().unwrap().uuid())
        .bind(i32::from(role))
        .execute(self.database.open().primary())
        .await
        .unwrap();
        self.refreshed(&user).await
    }

    /// The values of a topic, as soon as they are enough.
    pub(super) async fn announced<M: prost::Message + Default>(
        &self,
        topic: &str,
        are_enough: impl Fn(&[M]) -> bool,
    ) -> Vec<M> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The relay makes its topics when it starts.
            if let Ok(mut reader) = self.bus.reader(topic, 0, Start::Beginning).await {
                let records = reader.next(1_000, Duration::from_millis(100)).await.unwrap();
                let values = records.iter().map(|record| M::decode(record.value.clone()).unwrap());
                let values: Vec<M> = values.collect();
                if are_enough(&values) {
                    return values;
                }
            }
            assert!(Instant::now() < deadline, "{topic}: what was waited for did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A new workspace, and a key that may do everything in it.
    pub(super) async fn owner(&self) -> Principal {
        let message = CreateWorkspaceRequest {
            workspace: Some(Workspace { display_name: "Acme".to_owned(), ..Workspace::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let response = self.as_operator().create_workspace(message).await.unwrap().into_inner();
        let name = response.workspace.unwrap().name;
        let workspace = rpc::name::workspace("name", &name).unwrap();
        Principal::api_key(ApiKeyId::new(), workspace, Permissions::ALL)
    }

    pub(super) async fn create_key(
        &self,
        caller: &Principal,
        api_key: ApiKey,
    ) -> Result<CreateApiKeyResponse, Status> {
        let message = CreateApiKeyRequest {
            parent: parent(caller),
            api_key: Some(api_key),
            request_id: String::new(),
        };
        Ok(self.api_keys().create_api_key(by(caller, message)).await?.into_inner())
    }

    /// Stops the service; the database stays.
    pub(super) async fn stop(self) -> TestDatabase {
        self.stop_for_another().await.0
    }

    /// Stops the service; database and folder stay.
    pub(super) async fn stop_for_another(self) -> (TestDatabase, TempDir) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.host).await.unwrap().unwrap().unwrap();
        self.edge.close().await;
        self.operator.close().await;
        (self.database, self.folder)
    }
}

fn mesh_of(authority: &LocalAuthority, registry: &Arc<dyn mesh::Registry>, service: &str) -> Mesh {
    let options = MeshOptions {
        registry: registry.clone(),
        identity: authority.issue(service).unwrap(),
        zone: "local".to_owned(),
        region: "local".to_owned(),
        snapshot: None,
    };
    Mesh::start(options, &mut Registry::default()).unwrap()
}

/// A caller of a workspace that does not exist.
pub(super) fn stranger() -> Principal {
    Principal::api_key(ApiKeyId::new(), WorkspaceId::new(), Permissions::ALL)
}

/// The workspace that a caller is of.
pub(super) fn workspace(principal: &Principal) -> WorkspaceId {
    principal.grants[0].workspace
}

/// The caller with these permissions instead of its own.
pub(super) fn with(principal: &Principal, scopes: &[Scope]) -> Principal {
    let mut changed = principal.clone();
    changed.grants[0].permissions = Permissions::of(scopes);
    changed
}

pub(super) fn parent(principal: &Principal) -> String {
    format!("workspaces/{}", workspace(principal))
}

/// The request as the edge sends it for a caller.
pub(super) fn by<T>(principal: &Principal, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    principal.attach(request.metadata_mut());
    request
}

pub(super) fn key_with(scopes: &[Scope]) -> ApiKey {
    ApiKey {
        display_name: "deploy".to_owned(),
        scopes: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        ..ApiKey::default()
    }
}

/// The stable reason of an error.
#[track_caller]
pub(super) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let status = result.unwrap_err();
    let info = status.get_details_error_info();
    info.unwrap_or_else(|| panic!("without ErrorInfo: {status:?}")).reason
}

/// The field that an error blames, and what it says of it.
#[track_caller]
pub(super) fn violation<T: std::fmt::Debug>(result: Result<T, Status>) -> (String, String) {
    let status = result.unwrap_err();
    let bad = status.get_details_bad_request();
    let bad = bad.unwrap_or_else(|| panic!("without BadRequest: {status:?}"));
    let first = bad.field_violations.first().unwrap();
    (first.field.clone(), first.description.clone())
}
