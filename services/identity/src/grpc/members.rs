//! MembersService.

use proto::identity::v1::members_service_server::MembersService;
use proto::identity::v1::{
    GetMemberRequest, GetMemberResponse, LeaveWorkspaceRequest, LeaveWorkspaceResponse,
    ListMembersRequest, ListMembersResponse, RemoveMemberRequest, RemoveMemberResponse,
    UpdateMemberRequest, UpdateMemberResponse,
};
use rpc::{Principal, UserId, kind, mask, name, page};
use tonic::{Request, Response, Status};

use super::{Api, failed, refusal};
use crate::domain::{Member, role};
use crate::identified::{Identified, Kept};
use crate::wire;

#[tonic::async_trait]
impl MembersService for Api {
    async fn get_member(
        &self,
        request: Request<GetMemberRequest>,
    ) -> Result<Response<GetMemberResponse>, Status> {
        let (workspace, user) =
            name::child::<kind::User>("name", "members", &request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let member = self.store.member(workspace, user).await;
        let member = member.map_err(|failure| failed("", failure))?;
        Ok(Response::new(GetMemberResponse { member: Some(wire::member(&member)) }))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent];
        let behind = page::cursor("ListMembers", &parameters, &message.page_token)?
            .map(|bytes| UserId::from_slice(&bytes).map_err(|_| rpc::Error::invalid_page_token()))
            .transpose()?;

        let listed = self.store.list_members(workspace, behind, size).await;
        let (members, more) = listed.map_err(|failure| failed("", failure))?;
        let next = members
            .last()
            .filter(|_| more)
            .map(|last| page::token("ListMembers", &parameters, last.user.as_bytes()));
        Ok(Response::new(ListMembersResponse {
            members: members.iter().map(wire::member).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_member(
        &self,
        request: Request<UpdateMemberRequest>,
    ) -> Result<Response<UpdateMemberResponse>, Status> {
        let message = request.get_ref();
        let wanted = message.member.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid("member", "is required"))?;
        let (workspace, user) = name::child::<kind::User>("member.name", "members", &wanted.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let populated: &[&str] = if wanted.role != 0 { &["role"] } else { &[] };
        let fields = mask::fields(message.update_mask.as_ref(), &["role"], populated)?;
        let role = match fields.is_empty() {
            true => None,
            false => {
                Some(role(wanted.role).map_err(|violation| refusal("member", violation.into()))?)
            }
        };

        let id = Identified::new(
            workspace.uuid(),
            &message.request_id,
            "UpdateMember",
            message,
            Kept::Hashed,
        )?;
        let allow = |member: &Member| {
            principal.may_grant(workspace, member.role.permissions())?;
            role.map_or(Ok(()), |role| principal.may_grant(workspace, role.permissions()))
        };
        let act = id.act(principal);
        let updated = self.store.update_member(&act, (workspace, user), role, allow).await;
        Ok(Response::new(updated.map_err(|failure| failed("member", failure))?))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let message = request.get_ref();
        let (workspace, user) = name::child::<kind::User>("name", "members", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let id = Identified::new(
            workspace.uuid(),
            &message.request_id,
            "RemoveMember",
            message,
            Kept::Hashed,
        )?;
        let allow = |member: &Member| principal.may_grant(workspace, member.role.permissions());
        let removed = self.store.remove_member(&id.act(principal), (workspace, user), allow).await;
        Ok(Response::new(removed.map_err(|failure| failed("", failure))?))
    }

    async fn leave_workspace(
        &self,
        request: Request<LeaveWorkspaceRequest>,
    ) -> Result<Response<LeaveWorkspaceResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("name", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let user = principal.user()?;
        // Of the user, not of the workspace: two members may choose the same id.
        let id = Identified::new(
            user.uuid(),
            &message.request_id,
            "LeaveWorkspace",
            message,
            Kept::Hashed,
        )?;
        let left = self.store.leave_workspace(&id.act(principal), workspace, user).await;
        Ok(Response::new(left.map_err(|failure| failed("", failure))?))
    }
}
