//! Members: who is one, and as what.

use auth::Role;
use bus::topics::USER_EVENTS;
use pg::outbox;
use prost::Message as _;
use proto::events::v1::user_event::Event;
use proto::events::v1::{MemberAdded, MemberRemoved, MemberRoleChanged, UserEvent};
use proto::identity::v1::{
    AuditAction, LeaveWorkspaceResponse, RemoveMemberResponse, UpdateMemberResponse,
};
use rpc::{InvitationId, Principal, UserId, WorkspaceId};
use sqlx::FromRow;
use uuid::Uuid;

use super::act::{Act, Begun, Change, replayed};
use super::audit::Entry;
use super::{Failure, Store, invitations, time};
use crate::domain::{Error, MEMBERS_MAX, Member, TOO_MANY_MEMBERS, TOO_MANY_WORKSPACES};
use crate::wire;

const COLUMNS: &str = "workspace_id, user_id, role, create_micros, update_micros";

#[derive(Debug, FromRow)]
struct Row {
    workspace_id: Uuid,
    user_id: Uuid,
    role: i32,
    create_micros: i64,
    update_micros: i64,
}

impl TryFrom<Row> for Member {
    type Error = Failure;

    fn try_from(row: Row) -> Result<Self, Failure> {
        Ok(Member {
            workspace: WorkspaceId::from(row.workspace_id),
            user: UserId::from(row.user_id),
            role: stored_role(row.role)?,
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
        })
    }
}

impl Store {
    /// Reads a member.
    pub(crate) async fn member(
        &self,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Member, Failure> {
        let statement = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from identity.members where workspace_id = $1 and user_id = $2"
        )))
        .bind(workspace.uuid())
        .bind(user.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("get_member", statement).await?;
        row.ok_or_else(|| not_found(workspace, user))?.try_into()
    }

    /// Up to `size` members in the order of their ids, behind `behind`; and whether there are more.
    pub(crate) async fn list_members(
        &self,
        workspace: WorkspaceId,
        behind: Option<UserId>,
        size: usize,
    ) -> Result<(Vec<Member>, bool), Failure> {
        let statement = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from identity.members where workspace_id = $1 and user_id > $2
             order by user_id limit $3"
        )))
        .bind(workspace.uuid())
        .bind(behind.map_or(Uuid::nil(), |user| user.uuid()))
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<Row> = self.database.observe("list_members", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let members = rows.into_iter().map(Member::try_from).collect::<Result<_, Failure>>()?;
        Ok((members, more))
    }

    /// Gives a member another role. `allow` decides on the member as it is.
    pub(crate) async fn update_member(
        &self,
        act: &Act<'_>,
        (workspace, user): (WorkspaceId, UserId),
        role: Option<Role>,
        allow: impl Fn(&Member) -> Result<(), rpc::Error>,
    ) -> Result<UpdateMemberResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let (mut member, owners) = change.locked_member(workspace, user).await?;
        allow(&member)?;
        let old = member.role;
        if let Some(role) = role.filter(|role| *role != old) {
            member.may_become(Some(role), owners)?;
            member.role = role;
            member.update_time = time(act.micros())?;
            sqlx::query(
                "update identity.members set role = $3, update_micros = $4
                 where workspace_id = $1 and user_id = $2",
            )
            .bind(workspace.uuid())
            .bind(user.uuid())
            .bind(role.number())
            .bind(act.micros())
            .execute(change.connection())
            .await?;
            let changed = MemberRoleChanged {
                workspace_id: workspace.as_bytes().to_vec(),
                role: role.number(),
            };
            change.tell(act, user, Event::MemberRoleChanged(changed)).await?;
            let entry = Entry {
                action: AuditAction::MemberRoleChanged,
                resource: member.name(),
                details: &[("role", role.name()), ("old_role", old.name())],
            };
            change.audit(workspace.uuid(), entry).await?;
            if !old.permissions().without(role.permissions()).is_empty() {
                change.withdraw_invitation_to(act, workspace, user).await?;
            }
        }
        let response = UpdateMemberResponse { member: Some(wire::member(&member)) };
        change.commit("update_member", &response).await?;
        Ok(response)
    }

    /// Ends a membership. `allow` decides on the member as it is.
    pub(crate) async fn remove_member(
        &self,
        act: &Act<'_>,
        (workspace, user): (WorkspaceId, UserId),
        allow: impl Fn(&Member) -> Result<(), rpc::Error>,
    ) -> Result<RemoveMemberResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let action = AuditAction::MemberRemoved;
        change.end_membership(act, (workspace, user), action, allow).await?;
        change.commit("remove_member", &RemoveMemberResponse {}).await?;
        Ok(RemoveMemberResponse {})
    }

    /// Ends the membership of whoever calls.
    pub(crate) async fn leave_workspace(
        &self,
        act: &Act<'_>,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<LeaveWorkspaceResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let action = AuditAction::MemberLeft;
        change.end_membership(act, (workspace, user), action, |_| Ok(())).await?;
        change.commit("leave_workspace", &LeaveWorkspaceResponse {}).await?;
        Ok(LeaveWorkspaceResponse {})
    }
}

impl Change<'_> {
    /// Makes a user a member who is none, by the invitation of this name if there was one, within the limits of both sides. The
    /// workspace is locked, or new.
    pub(super) async fn add_member(
        &mut self,
        act: &Act<'_>,
        member: &Member,
        invitation: Option<&str>,
    ) -> Result<(), Failure> {
        let (workspace, user) = (member.workspace, member.user);
        let (members,): (i64,) =
            sqlx::query_as("select count(*) from identity.members where workspace_id = $1")
                .bind(workspace.uuid())
                .fetch_one(self.connection())
                .await?;
        if members >= MEMBERS_MAX {
            return Err(Error::Conflict(TOO_MANY_MEMBERS).into());
        }
        // Locks the user's row, so that what is counted below stays true.
        self.outdate_grants(act, user).await?;
        let (memberships,): (i64,) =
            sqlx::query_as("select count(*) from identity.members where user_id = $1")
                .bind(user.uuid())
                .fetch_one(self.connection())
                .await?;
        if memberships >= i64::try_from(Principal::GRANTS_MAX).unwrap_or(i64::MAX) {
            return Err(Error::Conflict(TOO_MANY_WORKSPACES).into());
        }
        sqlx::query(
            "insert into identity.members (workspace_id, user_id, role, create_micros, update_micros)
             values ($1, $2, $3, $4, $4)",
        )
        .bind(workspace.uuid())
        .bind(user.uuid())
        .bind(member.role.number())
        .bind(act.micros())
        .execute(self.connection())
        .await?;
        let added =
            MemberAdded { workspace_id: workspace.as_bytes().to_vec(), role: member.role.number() };
        self.announce(vec![user_event(act, Some(user), workspace, Event::MemberAdded(added))])
            .await?;
        let mut details = vec![("role", member.role.name())];
        details.extend(invitation.map(|name| ("invitation", name)));
        let entry =
            Entry { action: AuditAction::MemberAdded, resource: member.name(), details: &details };
        self.audit(workspace.uuid(), entry).await
    }

    /// What a user is in a workspace, which is locked.
    pub(super) async fn role_of(
        &mut self,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Option<Role>, Failure> {
        let row: Option<(i32,)> = sqlx::query_as(
            "select role from identity.members where workspace_id = $1 and user_id = $2",
        )
        .bind(workspace.uuid())
        .bind(user.uuid())
        .fetch_optional(self.connection())
        .await?;
        row.map(|(role,)| stored_role(role)).transpose()
    }

    /// The member of a workspace, and how many owners it has, neither of which changes until the commit.
    async fn locked_member(
        &mut self,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<(Member, i64), Failure> {
        self.lock_workspace(workspace).await?;
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from identity.members where workspace_id = $1 and user_id = $2"
        )))
        .bind(workspace.uuid())
        .bind(user.uuid())
        .fetch_optional(self.connection())
        .await?;
        let member = row.ok_or_else(|| not_found(workspace, user))?.try_into()?;
        let (owners,): (i64,) = sqlx::query_as(
            "select count(*) from identity.members where workspace_id = $1 and role = $2",
        )
        .bind(workspace.uuid())
        .bind(Role::Owner.number())
        .fetch_one(self.connection())
        .await?;
        Ok((member, owners))
    }

    async fn end_membership(
        &mut self,
        act: &Act<'_>,
        (workspace, user): (WorkspaceId, UserId),
        action: AuditAction,
        allow: impl Fn(&Member) -> Result<(), rpc::Error>,
    ) -> Result<(), Failure> {
        let (member, owners) = self.locked_member(workspace, user).await?;
        allow(&member)?;
        member.may_become(None, owners)?;
        sqlx::query("delete from identity.members where workspace_id = $1 and user_id = $2")
            .bind(workspace.uuid())
            .bind(user.uuid())
            .execute(self.connection())
            .await?;
        let removed = MemberRemoved { workspace_id: workspace.as_bytes().to_vec() };
        self.tell(act, user, Event::MemberRemoved(removed)).await?;
        let entry =
            Entry { action, resource: member.name(), details: &[("role", member.role.name())] };
        self.audit(workspace.uuid(), entry).await?;
        self.withdraw_invitation_to(act, workspace, user).await
    }

    /// Takes back the open invitation to the address of a user whose part in the workspace, which is locked, is less than it was: else
    /// they would come back by it.
    pub(super) async fn withdraw_invitation_to(
        &mut self,
        act: &Act<'_>,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<(), Failure> {
        let open: Option<(Uuid, i32)> = sqlx::query_as(
            "select i.id, i.role from identity.invitations i
             join identity.users u on u.email_hash = i.email_hash
             where i.workspace_id = $1 and u.id = $2 and i.expire_micros > $3",
        )
        .bind(workspace.uuid())
        .bind(user.uuid())
        .bind(act.micros())
        .fetch_optional(self.connection())
        .await?;
        let Some((id, role)) = open else { return Ok(()) };
        let id = InvitationId::from(id);
        self.delete_invitation(id).await?;
        let entry = Entry {
            action: AuditAction::InvitationRevoked,
            resource: invitations::name(workspace, id),
            details: &[("role", stored_role(role)?.name())],
        };
        self.audit(workspace.uuid(), entry).await
    }

    /// Announces that a membership has changed, to edges and to whoever follows what happens to users.
    async fn tell(&mut self, act: &Act<'_>, user: UserId, event: Event) -> Result<(), Failure> {
        self.outdate_grants(act, user).await?;
        self.announce(vec![user_event(act, Some(user), WorkspaceId::NIL, event)]).await
    }
}

/// An event for whoever follows what happens to users; keyed by the workspace where there is no user.
pub(super) fn user_event(
    act: &Act<'_>,
    user: Option<UserId>,
    workspace: WorkspaceId,
    event: Event,
) -> outbox::Change {
    let user_id = user.map(|user| user.as_bytes().to_vec()).unwrap_or_default();
    outbox::Change {
        topic: USER_EVENTS.name.into(),
        key: user.map_or_else(|| workspace.uuid(), |user| user.uuid()).as_bytes().to_vec(),
        value: UserEvent {
            event_id: Uuid::now_v7().as_bytes().to_vec(),
            user_id,
            time_unix_micros: act.micros().unsigned_abs(),
            event: Some(event),
        }
        .encode_to_vec(),
    }
}

/// A role as it is stored.
pub(super) fn stored_role(number: i32) -> Result<Role, Failure> {
    Role::from_number(number).ok_or_else(|| Failure::Corrupt(format!("role {number}")))
}

fn not_found(workspace: WorkspaceId, user: UserId) -> Failure {
    Error::NotFound(format!("workspaces/{workspace}/members/{user}")).into()
}
