//! InvitationsService.

use auth::{Role, Token};
use proto::common::v1::Scope;
use proto::identity::v1::invitations_service_server::InvitationsService;
use proto::identity::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, CreateInvitationRequest,
    CreateInvitationResponse, DeclineInvitationRequest, DeclineInvitationResponse,
    ListInvitationsRequest, ListInvitationsResponse, RevokeInvitationRequest,
    RevokeInvitationResponse,
};
use rpc::{Caller, InvitationId, Permissions, Principal, kind, name, page};
use tonic::{Request, Response, Status};

use super::{Api, failed, now_in_micros, refusal};
use crate::domain::limit::{OF_ADDRESS, OF_INVITER, OF_WORKSPACE};
use crate::domain::{Email, Error, INVITATION_LIFE, Invitation, Inviter, Violation, role};
use crate::identified::{Identified, Kept};
use crate::mail::INVITATION_SCHEME;
use crate::store::{Act, Failure, replayed};
use crate::wire;

const MESSAGE: &str = "invitation";

fn refused(violation: Violation) -> rpc::Error {
    refusal(MESSAGE, violation.into())
}

#[tonic::async_trait]
impl InvitationsService for Api {
    async fn create_invitation(
        &self,
        request: Request<CreateInvitationRequest>,
    ) -> Result<Response<CreateInvitationResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        let principal = Principal::admitted(&request, workspace)?;
        let wanted = message.invitation.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid(MESSAGE, "is required"))?;
        let email = Email::parse(&wanted.email).map_err(refused)?;
        let role = role(wanted.role).map_err(refused)?;
        let allow = |role: Role| principal.may_grant(workspace, role.permissions());
        allow(role)?;

        let method = "CreateInvitation";
        let id = self.identified(workspace.uuid(), &message.request_id, method, message)?;
        let act = id.act(principal);
        let inviter = match principal.caller {
            Caller::User { user, .. } => Inviter::User(user),
            Caller::ApiKey { key, .. } => Inviter::Key(key),
            Caller::Operator => Inviter::Operator,
        };
        let new = Invitation {
            id: InvitationId::new(),
            workspace,
            email,
            role,
            inviter,
            create_time: act.now,
            expire_time: act.now + INVITATION_LIFE,
        };
        let invited = self.invite(&act, &new, allow).await;
        let mut response = invited.map_err(|failure| failed(MESSAGE, failure))?;
        if let Some(invitation) = &mut response.invitation {
            // It is not kept with the response; the same request has the same one.
            invitation.email.clone_from(&wanted.email);
        }
        Ok(Response::new(response))
    }

    async fn list_invitations(
        &self,
        request: Request<ListInvitationsRequest>,
    ) -> Result<Response<ListInvitationsResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        let principal = Principal::admitted(&request, workspace)?;
        // Of no use to whoever can't answer for them.
        let to_invite = Permissions::of(&[Scope::MembersWrite]);
        let sees_addresses = principal.may_grant(workspace, to_invite).is_ok();
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent];
        let wrong = |_| rpc::Error::invalid_page_token();
        let behind = page::cursor("ListInvitations", &parameters, &message.page_token)?
            .map(|bytes| InvitationId::from_slice(&bytes).map_err(wrong))
            .transpose()?;

        let listed = self.store.list_invitations(workspace, behind, size, now_in_micros()).await;
        let (invitations, more) = listed.map_err(|failure| failed("", failure))?;
        let next = invitations
            .last()
            .filter(|_| more)
            .map(|last| page::token("ListInvitations", &parameters, last.id.as_bytes()));
        let mut invitations: Vec<_> = invitations.iter().map(wire::invitation).collect();
        if !sees_addresses {
            invitations.iter_mut().for_each(|invitation| invitation.email.clear());
        }
        Ok(Response::new(ListInvitationsResponse {
            invitations,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn revoke_invitation(
        &self,
        request: Request<RevokeInvitationRequest>,
    ) -> Result<Response<RevokeInvitationResponse>, Status> {
        let message = request.get_ref();
        let (workspace, invitation) =
            name::child::<kind::Invitation>("name", "invitations", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let method = "RevokeInvitation";
        let id =
            Identified::new(workspace.uuid(), &message.request_id, method, message, Kept::Hashed)?;
        let allow = |role: Role| principal.may_grant(workspace, role.permissions());
        let act = id.act(principal);
        let revoked = self.store.revoke_invitation(&act, (workspace, invitation), allow).await;
        Ok(Response::new(revoked.map_err(|failure| failed("", failure))?))
    }

    async fn accept_invitation(
        &self,
        request: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        let message = request.get_ref();
        let principal = Principal::admitted(&request, None)?;
        let user = principal.user()?;
        let method = "AcceptInvitation";
        let id = self.identified(user.uuid(), &message.request_id, method, message)?;
        let digest = token(&message.token)?.digest();
        let accepted = self.store.accept_invitation(&id.act(principal), user, &digest).await;
        Ok(Response::new(accepted.map_err(|failure| failed("", failure))?))
    }

    async fn decline_invitation(
        &self,
        request: Request<DeclineInvitationRequest>,
    ) -> Result<Response<DeclineInvitationResponse>, Status> {
        let message = request.get_ref();
        let principal = Principal::admitted(&request, None)?;
        let user = principal.user()?;
        let method = "DeclineInvitation";
        let id = self.identified(user.uuid(), &message.request_id, method, message)?;
        let digest = token(&message.token)?.digest();
        let declined = self.store.decline_invitation(&id.act(principal), user, &digest).await;
        Ok(Response::new(declined.map_err(|failure| failed("", failure))?))
    }
}

impl Api {
    /// The request id of a call whose request holds an address or a secret.
    fn identified(
        &self,
        namespace: uuid::Uuid,
        id: &str,
        method: &str,
        message: &impl prost::Message,
    ) -> Result<Identified, rpc::Error> {
        Identified::new(namespace, id, method, message, Kept::Keyed(&self.store))
    }

    /// Invites, within what is sent to an address, by a workspace, and by whoever invites. A repeated request sends nothing, and is not counted.
    async fn invite(
        &self,
        act: &Act<'_>,
        new: &Invitation,
        allow: impl Fn(Role) -> Result<(), rpc::Error>,
    ) -> Result<CreateInvitationResponse, Failure> {
        if let Some(bytes) = self.store.replayed(act.request.as_ref(), act.now).await? {
            return replayed(&bytes);
        }
        match &new.inviter {
            Inviter::User(user) => self.store.attempt(OF_INVITER, user.as_bytes(), act.now).await?,
            Inviter::Key(key) => self.store.attempt(OF_INVITER, key.as_bytes(), act.now).await?,
            Inviter::Operator => {}
        }
        self.store.attempt(OF_WORKSPACE, new.workspace.as_bytes(), act.now).await?;
        self.store.attempt(OF_ADDRESS, new.email.normalized().as_bytes(), act.now).await?;
        self.store.create_invitation(act, new, allow).await
    }
}

fn token(text: &str) -> Result<Token, rpc::Error> {
    Token::parse(INVITATION_SCHEME, text).ok_or_else(|| refusal("", Error::TokenInvalid))
}
