//! WorkspacesService.

use auth::Role;
use proto::common::v1::Tier;
use proto::identity::v1::workspaces_service_server::WorkspacesService;
use proto::identity::v1::{
    CreateWorkspaceRequest, CreateWorkspaceResponse, GetWorkspaceRequest, GetWorkspaceResponse,
    ListWorkspacesRequest, ListWorkspacesResponse, SetWorkspaceTierRequest,
    SetWorkspaceTierResponse, UpdateWorkspaceRequest, UpdateWorkspaceResponse,
};
use rpc::{Caller, Principal, WorkspaceId, mask, name, request_id};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, failed, refusal};
use crate::domain::{Member, Workspace, display_name};
use crate::identified::{Identified, Kept};
use crate::store::WorkspaceEdit;
use crate::wire;

#[tonic::async_trait]
impl WorkspacesService for Api {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        let principal = Principal::admitted(&request, None)?;
        let message = request.get_ref();
        request_id::required(&message.request_id)?;
        let wanted = message.workspace.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid("workspace", "is required"))?;
        let display_name = display_name(&wanted.display_name)
            .map_err(|violation| refusal("workspace", violation.into()))?;

        let user = match principal.caller {
            Caller::User { user, .. } => Some(user),
            Caller::ApiKey { .. } | Caller::Operator => None,
        };
        let namespace = user.map_or(Uuid::nil(), |user| user.uuid());
        let id = Identified::new(
            namespace,
            &message.request_id,
            "CreateWorkspace",
            message,
            Kept::Hashed,
        )?;
        let act = id.act(principal);
        let workspace = Workspace {
            id: WorkspaceId::new(),
            display_name,
            tier: Tier::Free.into(),
            create_time: act.now,
            update_time: act.now,
            version: act.now.as_microsecond(),
        };
        let owner = user.map(|user| Member {
            workspace: workspace.id,
            user,
            role: Role::Owner,
            create_time: act.now,
            update_time: act.now,
        });
        let created = self.store.create_workspace(&act, &workspace, owner.as_ref()).await;
        Ok(Response::new(created.map_err(|failure| failed("workspace", failure))?))
    }

    async fn list_workspaces(
        &self,
        request: Request<ListWorkspacesRequest>,
    ) -> Result<Response<ListWorkspacesResponse>, Status> {
        let user = Principal::admitted(&request, None)?.user()?;
        let listed = self.store.workspaces_of(user).await;
        let listed = listed.map_err(|failure| failed("", failure))?;
        let workspaces = listed.iter().map(wire::workspace).collect();
        Ok(Response::new(ListWorkspacesResponse { workspaces }))
    }

    async fn set_workspace_tier(
        &self,
        request: Request<SetWorkspaceTierRequest>,
    ) -> Result<Response<SetWorkspaceTierResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("name", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        request_id::required(&message.request_id)?;
        let tier = match Tier::try_from(message.tier) {
            Ok(Tier::Unspecified) | Err(_) => {
                let why = "must be TIER_FREE, TIER_PREMIUM or TIER_ENTERPRISE";
                return Err(rpc::Error::invalid("tier", why).into());
            }
            Ok(tier) => tier,
        };
        let method = "SetWorkspaceTier";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let set = self.store.set_workspace_tier(&id.act(principal), workspace, tier).await;
        Ok(Response::new(set.map_err(|failure| failed("", failure))?))
    }

    async fn get_workspace(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<GetWorkspaceResponse>, Status> {
        let workspace = name::workspace("name", &request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let found = self
            .store
            .workspace(workspace)
            .await
            .map_err(|failure| failed("workspace", failure))?;
        Ok(Response::new(GetWorkspaceResponse { workspace: Some(wire::workspace(&found)) }))
    }

    async fn update_workspace(
        &self,
        request: Request<UpdateWorkspaceRequest>,
    ) -> Result<Response<UpdateWorkspaceResponse>, Status> {
        let message = request.get_ref();
        let wanted = message.workspace.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid("workspace", "is required"))?;
        let workspace = name::workspace("workspace.name", &wanted.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let is_set = !wanted.display_name.is_empty();
        let populated: &[&str] = if is_set { &["display_name"] } else { &[] };
        let fields = mask::fields(message.update_mask.as_ref(), &["display_name"], populated)?;
        let display_name = match fields.is_empty() {
            true => None,
            false => Some(
                display_name(&wanted.display_name)
                    .map_err(|violation| refusal("workspace", violation.into()))?,
            ),
        };

        let method = "UpdateWorkspace";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let edit = WorkspaceEdit { workspace, etag: &wanted.etag, display_name };
        let updated = self.store.update_workspace(&id.act(principal), edit).await;
        Ok(Response::new(updated.map_err(|failure| failed("workspace", failure))?))
    }
}
