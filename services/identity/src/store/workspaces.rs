//! Workspaces.

use proto::common::v1::Tier;
use proto::events::v1::WorkspaceCreated;
use proto::events::v1::user_event::Event;
use proto::identity::v1::{
    AuditAction, CreateWorkspaceResponse, SetWorkspaceTierResponse, UpdateWorkspaceResponse,
};
use rpc::{UserId, WorkspaceId};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::act::{Act, Begun, replayed};
use super::audit::Entry;
use super::members::user_event;
use super::{Failure, Store, time};
use crate::domain::{Error, Member, Workspace, next_version};
use crate::wire;

const COLUMNS: &str = "id, display_name, tier, create_micros, update_micros, version";

#[derive(Debug, FromRow)]
struct Row {
    id: Uuid,
    display_name: String,
    tier: i32,
    create_micros: i64,
    update_micros: i64,
    version: i64,
}

impl TryFrom<Row> for Workspace {
    type Error = Failure;

    fn try_from(row: Row) -> Result<Self, Failure> {
        Ok(Workspace {
            id: WorkspaceId::from(row.id),
            display_name: row.display_name,
            tier: row.tier,
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
            version: row.version,
        })
    }
}

/// A change of a workspace.
#[derive(Debug)]
pub(crate) struct WorkspaceEdit<'a> {
    pub workspace: WorkspaceId,
    /// Empty: whatever the workspace's is.
    pub etag: &'a str,
    /// `None`: as it is.
    pub display_name: Option<String>,
}

impl Store {
    /// Adds a workspace, with its first member if there is one.
    pub(crate) async fn create_workspace(
        &self,
        act: &Act<'_>,
        workspace: &Workspace,
        owner: Option<&Member>,
    ) -> Result<CreateWorkspaceResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        sqlx::query(
            "insert into identity.workspaces
                 (id, display_name, tier, create_micros, update_micros, version)
             values ($1, $2, $3, $4, $4, $5)",
        )
        .bind(workspace.id.uuid())
        .bind(&workspace.display_name)
        .bind(workspace.tier)
        .bind(act.micros())
        .bind(workspace.version)
        .execute(change.connection())
        .await?;
        let created = WorkspaceCreated { workspace_id: workspace.id.as_bytes().to_vec() };
        let user = owner.map(|owner| owner.user);
        let event = user_event(act, user, workspace.id, Event::WorkspaceCreated(created));
        change.announce(vec![event]).await?;
        let entry = Entry {
            action: AuditAction::WorkspaceCreated,
            resource: workspace.name(),
            details: &[],
        };
        change.audit(workspace.id.uuid(), entry).await?;
        if let Some(owner) = owner {
            change.add_member(act, owner, None).await?;
        }
        let response = CreateWorkspaceResponse { workspace: Some(wire::workspace(workspace)) };
        change.commit("create_workspace", &response).await?;
        Ok(response)
    }

    /// Reads a workspace.
    pub(crate) async fn workspace(&self, workspace: WorkspaceId) -> Result<Workspace, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.workspaces where id = $1"
        )))
        .bind(workspace.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("get_workspace", statement).await?;
        row.ok_or_else(|| not_found(workspace))?.try_into()
    }

    /// The workspaces that a user is a member of, in the order of their ids: a bounded number.
    pub(crate) async fn workspaces_of(&self, user: UserId) -> Result<Vec<Workspace>, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.workspaces where id in (
                 select workspace_id from identity.members where user_id = $1) order by id"
        )))
        .bind(user.uuid())
        .fetch_all(self.database.primary());
        let rows: Vec<Row> = self.database.observe("list_workspaces", statement).await?;
        rows.into_iter().map(Workspace::try_from).collect()
    }

    /// Changes a workspace; returns it as it is then.
    pub(crate) async fn update_workspace(
        &self,
        act: &Act<'_>,
        edit: WorkspaceEdit<'_>,
    ) -> Result<UpdateWorkspaceResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let mut workspace = locked(change.connection(), edit.workspace).await?;
        if !edit.etag.is_empty() && edit.etag != workspace.etag() {
            return Err(Error::EtagMismatch.into());
        }
        if let Some(display_name) = edit.display_name {
            workspace.display_name = display_name;
        }
        write(change.connection(), act, &mut workspace).await?;
        let entry = Entry {
            action: AuditAction::WorkspaceUpdated,
            resource: workspace.name(),
            details: &[],
        };
        change.audit(workspace.id.uuid(), entry).await?;
        let response = UpdateWorkspaceResponse { workspace: Some(wire::workspace(&workspace)) };
        change.commit("update_workspace", &response).await?;
        Ok(response)
    }

    /// Sets what a workspace has paid for; edges forget what they knew of its keys and members.
    pub(crate) async fn set_workspace_tier(
        &self,
        act: &Act<'_>,
        workspace: WorkspaceId,
        tier: Tier,
    ) -> Result<SetWorkspaceTierResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let mut workspace = locked(change.connection(), workspace).await?;
        let is_new = wire::tier(workspace.tier) != tier;
        workspace.tier = tier.into();
        write(change.connection(), act, &mut workspace).await?;
        if is_new {
            change.outdate_keys(act, workspace.id).await?;
            change.outdate_members(act, workspace.id).await?;
        }
        let entry = Entry {
            action: AuditAction::WorkspaceTierSet,
            resource: workspace.name(),
            details: &[("tier", tier.as_str_name())],
        };
        change.audit(workspace.id.uuid(), entry).await?;
        let response = SetWorkspaceTierResponse { workspace: Some(wire::workspace(&workspace)) };
        change.commit("set_workspace_tier", &response).await?;
        Ok(response)
    }
}

async fn locked(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
) -> Result<Workspace, Failure> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from identity.workspaces where id = $1 for no key update"
    )))
    .bind(workspace.uuid())
    .fetch_optional(connection)
    .await?;
    row.ok_or_else(|| not_found(workspace))?.try_into()
}

async fn write(
    connection: &mut PgConnection,
    act: &Act<'_>,
    workspace: &mut Workspace,
) -> Result<(), Failure> {
    workspace.update_time = time(act.micros())?;
    workspace.version = next_version(workspace.version, act.micros());
    sqlx::query(
        "update identity.workspaces set display_name = $2, tier = $3, update_micros = $4, version = $5
         where id = $1",
    )
    .bind(workspace.id.uuid())
    .bind(&workspace.display_name)
    .bind(workspace.tier)
    .bind(act.micros())
    .bind(workspace.version)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn not_found(workspace: WorkspaceId) -> Failure {
    Error::NotFound(format!("workspaces/{workspace}")).into()
}
