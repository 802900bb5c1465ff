//! Invitations. An open one is a row; one that is answered, taken back or replaced is none.
//!
//! What must stay true: the workspace is locked before its invitations are counted, answered or deleted, so that one is answered
//! once and their number keeps to its limit.

use auth::{KeyDigest, Role};
use jiff::Timestamp;
use proto::identity::v1 as api;
use proto::identity::v1::{
    AcceptInvitationResponse, AuditAction, CreateInvitationResponse, DeclineInvitationResponse,
    RevokeInvitationResponse,
};
use rpc::{ApiKeyId, InvitationId, Permissions, UserId, WorkspaceId};
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::act::{Act, Begun, Change, replayed};
use super::audit::Entry;
use super::fields::INVITATION_EMAIL;
use super::mails::{MailKind, NewMail};
use super::members::stored_role;
use super::{Failure, Store, time, users};
use crate::domain::{
    Error, INVITATIONS_MAX, INVITED_ANOTHER, Invitation, Inviter, MEMBER_ALREADY, Member,
    TOO_MANY_INVITATIONS,
};
use crate::wire;

const COLUMNS: &str = "id, workspace_id, email_hash, email, role, inviter_id, key_id, create_micros, \
    expire_micros";

#[derive(FromRow)]
struct Row {
    id: Uuid,
    workspace_id: Uuid,
    email_hash: Vec<u8>,
    email: Vec<u8>,
    role: i32,
    inviter_id: Option<Uuid>,
    key_id: Option<Uuid>,
    create_micros: i64,
    expire_micros: i64,
}

/// What the mail of an invitation says.
#[derive(Debug)]
pub(crate) struct InvitedTo {
    /// The workspace's display name.
    pub workspace: String,
    pub role: Role,
}

impl Store {
    fn invitation_of(&self, row: &Row) -> Result<Invitation, Failure> {
        Ok(Invitation {
            id: InvitationId::from(row.id),
            workspace: WorkspaceId::from(row.workspace_id),
            email: self.open_email(INVITATION_EMAIL, row.id.as_bytes(), &row.email)?,
            role: stored_role(row.role)?,
            inviter: match (row.inviter_id, row.key_id) {
                (Some(user), _) => Inviter::User(UserId::from(user)),
                (None, Some(key)) => Inviter::Key(ApiKeyId::from(key)),
                (None, None) => Inviter::Operator,
            },
            create_time: time(row.create_micros)?,
            expire_time: time(row.expire_micros)?,
        })
    }

    /// Adds an invitation, with its mail, in place of an open one of the address, whose role `allow` decides on. The response is
    /// without the address, which is kept nowhere but sealed: whoever asks has it.
    pub(crate) async fn create_invitation(
        &self,
        act: &Act<'_>,
        new: &Invitation,
        allow: impl Fn(Role) -> Result<(), rpc::Error>,
    ) -> Result<CreateInvitationResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        change.lock_workspace(new.workspace).await?;
        let email_hash = self.email_hash(&new.email);
        let found: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.invitations where workspace_id = $1 and email_hash = $2"
        )))
        .bind(new.workspace.uuid())
        .bind(email_hash.as_slice())
        .fetch_optional(change.connection())
        .await?;
        if let Some(old) = found.map(|row| self.invitation_of(&row)).transpose()? {
            if old.expire_time > act.now {
                allow(old.role)?;
                change.log_invitation(AuditAction::InvitationRevoked, &old).await?;
            }
            change.delete_invitation(old.id).await?;
        }
        let (open,): (i64,) = sqlx::query_as(
            "select count(*) from identity.invitations where workspace_id = $1 and expire_micros > $2",
        )
        .bind(new.workspace.uuid())
        .bind(act.micros())
        .fetch_one(change.connection())
        .await?;
        if open >= INVITATIONS_MAX {
            return Err(Error::Conflict(TOO_MANY_INVITATIONS).into());
        }
        let sealed =
            self.seal(INVITATION_EMAIL, new.id.as_bytes(), new.email.as_str().as_bytes())?;
        let (user, key) = match new.inviter {
            Inviter::User(user) => (Some(user.uuid()), None),
            Inviter::Key(key) => (None, Some(key.uuid())),
            Inviter::Operator => (None, None),
        };
        sqlx::query(
            "insert into identity.invitations
                 (id, workspace_id, email_hash, email, role, inviter_id, key_id, create_micros,
                  expire_micros)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(new.id.uuid())
        .bind(new.workspace.uuid())
        .bind(email_hash.as_slice())
        .bind(sealed)
        .bind(new.role.number())
        .bind(user)
        .bind(key)
        .bind(act.micros())
        .bind(new.expire_time.as_microsecond())
        .execute(change.connection())
        .await?;
        let mail = NewMail {
            id: new.id.uuid(),
            kind: MailKind::Invitation,
            email: &new.email,
            now: act.now,
            expire_time: new.expire_time,
        };
        self.add_mail(change.connection(), &mail).await?;
        change.log_invitation(AuditAction::InvitationCreated, new).await?;
        let invitation = api::Invitation { email: String::new(), ..wire::invitation(new) };
        let response = CreateInvitationResponse { invitation: Some(invitation) };
        change.commit("create_invitation", &response).await?;
        self.mails_waiting.notify_one();
        Ok(response)
    }

    /// Up to `size` open invitations in the order of their ids, behind `behind`; and whether there are more.
    pub(crate) async fn list_invitations(
        &self,
        workspace: WorkspaceId,
        behind: Option<InvitationId>,
        size: usize,
        now: Timestamp,
    ) -> Result<(Vec<Invitation>, bool), Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.invitations
             where workspace_id = $1 and id > $2 and expire_micros > $3 order by id limit $4"
        )))
        .bind(workspace.uuid())
        .bind(behind.map_or(Uuid::nil(), |invitation| invitation.uuid()))
        .bind(now.as_microsecond())
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<Row> = self.database.observe("list_invitations", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let invitations = rows.iter().map(|row| self.invitation_of(row));
        Ok((invitations.collect::<Result<_, Failure>>()?, more))
    }

    /// Takes an open invitation back. `allow` decides on its role.
    pub(crate) async fn revoke_invitation(
        &self,
        act: &Act<'_>,
        (workspace, invitation): (WorkspaceId, InvitationId),
        allow: impl Fn(Role) -> Result<(), rpc::Error>,
    ) -> Result<RevokeInvitationResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        change.lock_workspace(workspace).await?;
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.invitations
             where id = $1 and workspace_id = $2 and expire_micros > $3"
        )))
        .bind(invitation.uuid())
        .bind(workspace.uuid())
        .bind(act.micros())
        .fetch_optional(change.connection())
        .await?;
        let found = row.ok_or_else(|| not_found(workspace, invitation))?;
        let found = self.invitation_of(&found)?;
        allow(found.role)?;
        change.delete_invitation(found.id).await?;
        change.log_invitation(AuditAction::InvitationRevoked, &found).await?;
        change.commit("revoke_invitation", &RevokeInvitationResponse {}).await?;
        Ok(RevokeInvitationResponse {})
    }

    /// Makes a user a member by an open invitation of their address.
    pub(crate) async fn accept_invitation(
        &self,
        act: &Act<'_>,
        user: UserId,
        token: &KeyDigest,
    ) -> Result<AcceptInvitationResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let invitation = self.taken(&mut change, act, user, token).await?;
        let held = change.held_by(act, &invitation).await?;
        if !invitation.holds(held) {
            return Err(Error::TokenInvalid.into());
        }
        if change.role_of(invitation.workspace, user).await?.is_some() {
            return Err(Error::Conflict(MEMBER_ALREADY).into());
        }
        let member = Member {
            workspace: invitation.workspace,
            user,
            role: invitation.role,
            create_time: act.now,
            update_time: act.now,
        };
        change.add_member(act, &member, Some(&invitation.name())).await?;
        let response = AcceptInvitationResponse { member: Some(wire::member(&member)) };
        change.commit("accept_invitation", &response).await?;
        Ok(response)
    }

    /// Turns an open invitation of a user's address down.
    pub(crate) async fn decline_invitation(
        &self,
        act: &Act<'_>,
        user: UserId,
        token: &KeyDigest,
    ) -> Result<DeclineInvitationResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let invitation = self.taken(&mut change, act, user, token).await?;
        change.log_invitation(AuditAction::InvitationDeclined, &invitation).await?;
        change.commit("decline_invitation", &DeclineInvitationResponse {}).await?;
        Ok(DeclineInvitationResponse {})
    }

    /// Gives an invitation the token that its mail will carry; none if it is not there any more.
    pub(crate) async fn set_invitation_token(
        &self,
        invitation: Uuid,
        digest: &KeyDigest,
    ) -> Result<Option<InvitedTo>, Failure> {
        let statement = sqlx::query_as(
            "update identity.invitations i set token_digest = $2 from identity.workspaces w
             where i.id = $1 and w.id = i.workspace_id returning w.display_name, i.role",
        )
        .bind(invitation)
        .bind(digest.as_bytes().as_slice())
        .fetch_optional(self.database.primary());
        let row: Option<(String, i32)> =
            self.database.observe("set_invitation_token", statement).await?;
        row.map(|(workspace, role)| Ok(InvitedTo { workspace, role: stored_role(role)? }))
            .transpose()
    }

    /// The open invitation of a token, which is gone with the commit. Only whoever has its address takes it.
    async fn taken(
        &self,
        change: &mut Change<'_>,
        act: &Act<'_>,
        user: UserId,
        token: &KeyDigest,
    ) -> Result<Invitation, Failure> {
        let open: Option<(Uuid,)> = sqlx::query_as(
            "select workspace_id from identity.invitations
             where token_digest = $1 and expire_micros > $2",
        )
        .bind(token.as_bytes().as_slice())
        .bind(act.micros())
        .fetch_optional(change.connection())
        .await?;
        let (workspace,) = open.ok_or(Error::TokenInvalid)?;
        change.lock_workspace(WorkspaceId::from(workspace)).await?;
        // It may have gone before the lock was had.
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.invitations where token_digest = $1"
        )))
        .bind(token.as_bytes().as_slice())
        .fetch_optional(change.connection())
        .await?;
        let row = row.ok_or(Error::TokenInvalid)?;
        // Locked: a user who is erased meanwhile becomes no member.
        let theirs: Option<(Vec<u8>,)> = sqlx::query_as(
            "select email_hash from identity.users where id = $1 and erase_micros is null
             for no key update",
        )
        .bind(user.uuid())
        .fetch_optional(change.connection())
        .await?;
        let (theirs,) = theirs.ok_or_else(|| users::not_found(user))?;
        if theirs != row.email_hash {
            return Err(Error::Conflict(INVITED_ANOTHER).into());
        }
        let invitation = self.invitation_of(&row)?;
        change.delete_invitation(invitation.id).await?;
        Ok(invitation)
    }
}

impl Change<'_> {
    /// What whoever invited may do now, in the workspace, which is locked.
    async fn held_by(
        &mut self,
        act: &Act<'_>,
        invitation: &Invitation,
    ) -> Result<Permissions, Failure> {
        let held = match invitation.inviter {
            Inviter::User(user) => {
                self.role_of(invitation.workspace, user).await?.map(Role::permissions)
            }
            Inviter::Key(key) => self.scopes_of(act, invitation.workspace, key).await?,
            Inviter::Operator => None,
        };
        Ok(held.unwrap_or_default())
    }

    /// Deletes an invitation, and its mail if that is still to be sent.
    pub(super) async fn delete_invitation(
        &mut self,
        invitation: InvitationId,
    ) -> Result<(), Failure> {
        for table in ["invitations", "mails"] {
            sqlx::query(AssertSqlSafe(format!("delete from identity.{table} where id = $1")))
                .bind(invitation.uuid())
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    async fn log_invitation(
        &mut self,
        action: AuditAction,
        invitation: &Invitation,
    ) -> Result<(), Failure> {
        let entry = Entry {
            action,
            resource: invitation.name(),
            details: &[("role", invitation.role.name())],
        };
        self.audit(invitation.workspace.uuid(), entry).await
    }
}

/// An invitation's resource name.
pub(super) fn name(workspace: WorkspaceId, invitation: InvitationId) -> String {
    format!("workspaces/{workspace}/invitations/{invitation}")
}

fn not_found(workspace: WorkspaceId, invitation: InvitationId) -> Failure {
    Error::NotFound(name(workspace, invitation)).into()
}
