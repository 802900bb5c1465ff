//! WorkspacesService.

use prost::Message as _;
use proto::identity::v1::workspaces_service_server::WorkspacesService;
use proto::identity::v1::{
    CreateWorkspaceRequest, CreateWorkspaceResponse, GetWorkspaceRequest, GetWorkspaceResponse,
    UpdateWorkspaceRequest, UpdateWorkspaceResponse,
};
use rpc::{Principal, WorkspaceId, mask, name, request_id};
use tonic::{Request, Response, Status};

use super::{Api, failed, identified, now_in_micros, refusal, replayed};
use crate::domain::{Workspace, display_name};
use crate::store::{Outcome, WorkspaceEdit};
use crate::wire;

#[tonic::async_trait]
impl WorkspacesService for Api {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        Principal::admitted(&request, None)?;
        let message = request.into_inner();
        let id = request_id::required(&message.request_id)?;
        let fingerprint = request_id::fingerprint("CreateWorkspace", &message);
        let wanted =
            message.workspace.ok_or_else(|| rpc::Error::invalid("workspace", "is required"))?;
        let display_name = display_name(&wanted.display_name)
            .map_err(|violation| refusal("workspace", violation.into()))?;

        let now = now_in_micros();
        let workspace = Workspace {
            id: WorkspaceId::new(),
            display_name,
            create_time: now,
            update_time: now,
            version: now.as_microsecond(),
        };
        let response = CreateWorkspaceResponse { workspace: Some(wire::workspace(&workspace)) };
        let request = identified(WorkspaceId::NIL, id, &fingerprint);
        let outcome =
            self.store.create_workspace(&workspace, &request, &response.encode_to_vec()).await;
        Ok(Response::new(match outcome.map_err(|failure| failed("workspace", failure))? {
            Outcome::Replayed(bytes) => replayed(&bytes)?,
            Outcome::Done(()) => response,
        }))
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
        let UpdateWorkspaceRequest { workspace, update_mask } = request.get_ref();
        let wanted =
            workspace.as_ref().ok_or_else(|| rpc::Error::invalid("workspace", "is required"))?;
        let workspace = name::workspace("workspace.name", &wanted.name)?;
        Principal::admitted(&request, workspace)?;
        let is_set = !wanted.display_name.is_empty();
        let populated: &[&str] = if is_set { &["display_name"] } else { &[] };
        let fields = mask::fields(update_mask.as_ref(), &["display_name"], populated)?;
        let display_name = match fields.is_empty() {
            true => None,
            false => Some(
                display_name(&wanted.display_name)
                    .map_err(|violation| refusal("workspace", violation.into()))?,
            ),
        };

        let now = now_in_micros();
        let edit = WorkspaceEdit { workspace, etag: &wanted.etag, display_name, now };
        let updated = self.store.update_workspace(edit).await;
        let updated = updated.map_err(|failure| failed("workspace", failure))?;
        Ok(Response::new(UpdateWorkspaceResponse { workspace: Some(wire::workspace(&updated)) }))
    }
}
