//! The first workspace and its API key, made by the operator through the identity service like any other.

use std::time::Duration;

use anyhow::Context as _;
use mesh::Mesh;
use proto::identity::v1::api_keys_service_client::ApiKeysServiceClient;
use proto::identity::v1::workspaces_service_client::WorkspacesServiceClient;
use proto::identity::v1::{ApiKey, CreateApiKeyRequest, CreateWorkspaceRequest, Workspace};
use rpc::{ApiKeyId, Principal, WorkspaceId};
use serde::{Deserialize, Serialize};

/// The service name under which an operator's certificate is issued.
pub const OPERATOR: &str = "operator";

/// Each of the two calls, the wait for the first instance of identity included.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// What a caller from outside needs to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// `workspaces/wsp_…`
    pub workspace: String,
    /// The secret of an API key with every scope; shown by identity this once.
    pub api_key: String,
}

/// Makes a workspace of that name and a key for it. `mesh` speaks as [`OPERATOR`].
///
/// # Errors
/// As the two calls; a workspace without a key may be left behind.
pub async fn seed(mesh: &Mesh, display_name: &str) -> anyhow::Result<Seed> {
    let mut request = tonic::Request::new(CreateWorkspaceRequest {
        workspace: Some(Workspace {
            display_name: display_name.to_owned(),
            ..Workspace::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
    });
    request.set_timeout(CALL_TIMEOUT);
    let mut workspaces = WorkspacesServiceClient::new(mesh.clone());
    let created = workspaces.create_workspace(request).await.context("creating a workspace")?;
    let workspace = created.into_inner().workspace.context("identity answered no workspace")?.name;

    let id = workspace.strip_prefix("workspaces/").context("a workspace's name begins so")?;
    let principal = Principal {
        workspace: WorkspaceId::parse(id)?,
        api_key: ApiKeyId::NIL,
        scopes: Principal::ALL_SCOPES.to_vec(),
    };
    let mut request = tonic::Request::new(CreateApiKeyRequest {
        parent: workspace.clone(),
        api_key: Some(ApiKey {
            display_name: display_name.to_owned(),
            scopes: principal.scopes.iter().map(|scope| i32::from(*scope)).collect(),
            ..ApiKey::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
    });
    request.set_timeout(CALL_TIMEOUT);
    principal.attach(request.metadata_mut());
    let mut keys = ApiKeysServiceClient::new(mesh.clone());
    let created = keys.create_api_key(request).await.context("creating an API key")?;
    Ok(Seed { workspace, api_key: created.into_inner().secret })
}
