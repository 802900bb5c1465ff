//! Making workspaces and API keys as an operator: for the commands, and for the first start of `dev` and `up`.

use mesh::Mesh;
use proto::identity::v1::ApiKey;
use proto::identity::v1::CreateApiKeyRequest;
use proto::identity::v1::CreateApiKeyResponse;
use proto::identity::v1::CreateWorkspaceRequest;
use proto::identity::v1::Workspace;
use proto::identity::v1::api_keys_service_client::ApiKeysServiceClient;
use proto::identity::v1::workspaces_service_client::WorkspacesServiceClient;
use rpc::Permissions;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use crate::operator;

/// The service name under which an operator's certificate is issued.
pub const OPERATOR: &str = mesh::identity::OPERATOR;

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
    let workspace = workspace(mesh.clone(), display_name, Uuid::new_v4()).await?.name;
    let key = NewApiKey {
        workspace: &workspace,
        display_name,
        scopes: Permissions::ALL,
        expire_time: None,
    };
    let created = api_key(mesh.clone(), key).await?;
    Ok(Seed { workspace, api_key: created.secret })
}

/// Creates a workspace. The same `request_id` again gives the same workspace.
pub(crate) async fn workspace(
    mesh: Mesh,
    display_name: &str,
    request_id: Uuid,
) -> anyhow::Result<Workspace> {
    let workspace = Workspace { display_name: display_name.to_owned(), ..Workspace::default() };
    let request =
        CreateWorkspaceRequest { workspace: Some(workspace), request_id: request_id.to_string() };
    let answer = WorkspacesServiceClient::new(mesh)
        .create_workspace(operator::call(request))
        .await
        .map_err(operator::refused("creating the workspace"))?;
    Ok(answer.into_inner().workspace.unwrap_or_default())
}

/// What an API key is to be.
#[derive(Debug)]
pub(crate) struct NewApiKey<'a> {
    /// `workspaces/{workspace}`.
    pub(crate) workspace: &'a str,
    pub(crate) display_name: &'a str,
    pub(crate) scopes: Permissions,
    pub(crate) expire_time: Option<prost_types::Timestamp>,
}

/// Creates an API key; its secret is in the answer, and nowhere else.
pub(crate) async fn api_key(
    mesh: Mesh,
    key: NewApiKey<'_>,
) -> anyhow::Result<CreateApiKeyResponse> {
    let api_key = ApiKey {
        display_name: key.display_name.to_owned(),
        scopes: key.scopes.numbers(),
        expire_time: key.expire_time,
        ..ApiKey::default()
    };
    let request = operator::call(CreateApiKeyRequest {
        parent: key.workspace.to_owned(),
        api_key: Some(api_key),
        request_id: Uuid::new_v4().to_string(),
    });
    let answer = ApiKeysServiceClient::new(mesh)
        .create_api_key(request)
        .await
        .map_err(operator::refused("creating the API key"))?;
    Ok(answer.into_inner())
}
