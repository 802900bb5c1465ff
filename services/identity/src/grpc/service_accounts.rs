//! ServiceAccountsService.

use proto::identity::v1::service_accounts_service_server::ServiceAccountsService;
use proto::identity::v1::{
    CreateServiceAccountRequest, CreateServiceAccountResponse, DeleteServiceAccountRequest,
    DeleteServiceAccountResponse, GetServiceAccountRequest, GetServiceAccountResponse,
    ListServiceAccountsRequest, ListServiceAccountsResponse, UpdateServiceAccountRequest,
    UpdateServiceAccountResponse,
};
use rpc::{Principal, ServiceAccountId, kind, mask, name, page};
use tonic::{Request, Response, Status};

use super::{Api, failed, refusal};
use crate::domain::{ServiceAccount, Violation, display_name, role};
use crate::identified::{Identified, Kept};
use crate::store::ServiceAccountEdit;
use crate::wire;

const MESSAGE: &str = "service_account";

fn refused(violation: Violation) -> rpc::Error {
    refusal(MESSAGE, violation.into())
}

#[tonic::async_trait]
impl ServiceAccountsService for Api {
    async fn create_service_account(
        &self,
        request: Request<CreateServiceAccountRequest>,
    ) -> Result<Response<CreateServiceAccountResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        let principal = Principal::admitted(&request, workspace)?;
        let wanted = message.service_account.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid(MESSAGE, "is required"))?;
        let method = "CreateServiceAccount";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let act = id.act(principal);
        let account = ServiceAccount {
            id: ServiceAccountId::new(),
            workspace,
            display_name: display_name(&wanted.display_name).map_err(refused)?,
            role: role(wanted.role).map_err(refused)?,
            create_time: act.now,
            update_time: act.now,
        };
        principal.may_grant(workspace, account.role.permissions())?;
        let created = self.store.create_service_account(&act, &account).await;
        Ok(Response::new(created.map_err(|failure| failed(MESSAGE, failure))?))
    }

    async fn get_service_account(
        &self,
        request: Request<GetServiceAccountRequest>,
    ) -> Result<Response<GetServiceAccountResponse>, Status> {
        let (workspace, account) = named("name", &request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let account = self.store.service_account(workspace, account).await;
        let account = account.map_err(|failure| failed("", failure))?;
        let service_account = Some(wire::service_account(&account));
        Ok(Response::new(GetServiceAccountResponse { service_account }))
    }

    async fn list_service_accounts(
        &self,
        request: Request<ListServiceAccountsRequest>,
    ) -> Result<Response<ListServiceAccountsResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent];
        let wrong = |_| rpc::Error::invalid_page_token();
        let behind = page::cursor("ListServiceAccounts", &parameters, &message.page_token)?
            .map(|bytes| ServiceAccountId::from_slice(&bytes).map_err(wrong))
            .transpose()?;

        let listed = self.store.list_service_accounts(workspace, behind, size).await;
        let (accounts, more) = listed.map_err(|failure| failed("", failure))?;
        let next = accounts
            .last()
            .filter(|_| more)
            .map(|last| page::token("ListServiceAccounts", &parameters, last.id.as_bytes()));
        Ok(Response::new(ListServiceAccountsResponse {
            service_accounts: accounts.iter().map(wire::service_account).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_service_account(
        &self,
        request: Request<UpdateServiceAccountRequest>,
    ) -> Result<Response<UpdateServiceAccountResponse>, Status> {
        let message = request.get_ref();
        let wanted = message.service_account.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid(MESSAGE, "is required"))?;
        let (workspace, account) = named("service_account.name", &wanted.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let set = [("display_name", !wanted.display_name.is_empty()), ("role", wanted.role != 0)];
        let populated = set.iter().filter(|(_, is_set)| *is_set).map(|(field, _)| *field);
        let populated: Vec<_> = populated.collect();
        let changeable = ["display_name", "role"];
        let mut edit = ServiceAccountEdit::default();
        for field in mask::fields(message.update_mask.as_ref(), &changeable, &populated)? {
            if field == "role" {
                edit.role = Some(role(wanted.role).map_err(refused)?);
            } else {
                edit.display_name = Some(display_name(&wanted.display_name).map_err(refused)?);
            }
        }

        let method = "UpdateServiceAccount";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let new_role = edit.role;
        let allow = |account: &ServiceAccount| {
            principal.may_grant(workspace, account.role.permissions())?;
            new_role.map_or(Ok(()), |role| principal.may_grant(workspace, role.permissions()))
        };
        let act = id.act(principal);
        let updated =
            self.store.update_service_account(&act, (workspace, account), edit, allow).await;
        Ok(Response::new(updated.map_err(|failure| failed(MESSAGE, failure))?))
    }

    async fn delete_service_account(
        &self,
        request: Request<DeleteServiceAccountRequest>,
    ) -> Result<Response<DeleteServiceAccountResponse>, Status> {
        let message = request.get_ref();
        let (workspace, account) = named("name", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let method = "DeleteServiceAccount";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let allow =
            |account: &ServiceAccount| principal.may_grant(workspace, account.role.permissions());
        let act = id.act(principal);
        let deleted = self.store.delete_service_account(&act, (workspace, account), allow).await;
        Ok(Response::new(deleted.map_err(|failure| failed("", failure))?))
    }
}

/// `workspaces/{workspace}/serviceAccounts/{service_account}`.
pub(super) fn named(
    field: &str,
    text: &str,
) -> Result<(rpc::WorkspaceId, ServiceAccountId), rpc::Error> {
    name::child::<kind::ServiceAccount>(field, "serviceAccounts", text)
}
