//! Workspaces.

use jiff::Timestamp;
use pg::requests::Request;
use rpc::WorkspaceId;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Failure, Outcome, Store, time};
use crate::domain::{Error, Workspace, next_version};

#[derive(Debug, FromRow)]
struct Row {
    id: Uuid,
    display_name: String,
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
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
            version: row.version,
        })
    }
}

/// A change of a workspace.
pub(crate) struct WorkspaceEdit<'a> {
    pub workspace: WorkspaceId,
    /// Empty: whatever the workspace's is.
    pub etag: &'a str,
    /// `None`: as it is.
    pub display_name: Option<String>,
    pub now: Timestamp,
}

impl Store {
    /// Adds a workspace.
    pub(crate) async fn create_workspace(
        &self,
        workspace: &Workspace,
        request: &Request<'_>,
        response: &[u8],
    ) -> Result<Outcome<()>, Failure> {
        let now_micros = workspace.create_time.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim(&mut transaction, Some(request), now_micros).await? {
            return Ok(Outcome::Replayed(response));
        }
        sqlx::query(
            "insert into identity.workspaces (id, display_name, create_micros, update_micros, version)
             values ($1, $2, $3, $3, $4)",
        )
        .bind(workspace.id.uuid())
        .bind(&workspace.display_name)
        .bind(now_micros)
        .bind(workspace.version)
        .execute(&mut *transaction)
        .await?;
        self.complete(&mut transaction, Some(request), response).await?;
        self.database.observe("create_workspace", transaction.commit()).await?;
        Ok(Outcome::Done(()))
    }

    /// Reads a workspace.
    pub(crate) async fn workspace(&self, workspace: WorkspaceId) -> Result<Workspace, Failure> {
        let statement = sqlx::query_as(
            "select id, display_name, create_micros, update_micros, version
             from identity.workspaces where id = $1",
        )
        .bind(workspace.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("get_workspace", statement).await?;
        row.ok_or_else(|| not_found(workspace))?.try_into()
    }

    /// Changes a workspace; returns it as it is then.
    pub(crate) async fn update_workspace(
        &self,
        edit: WorkspaceEdit<'_>,
    ) -> Result<Workspace, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let row: Option<Row> = sqlx::query_as(
            "select id, display_name, create_micros, update_micros, version
             from identity.workspaces where id = $1 for update",
        )
        .bind(edit.workspace.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        let mut workspace = Workspace::try_from(row.ok_or_else(|| not_found(edit.workspace))?)?;
        if !edit.etag.is_empty() && edit.etag != workspace.etag() {
            return Err(Error::EtagMismatch.into());
        }
        let now_micros = edit.now.as_microsecond();
        if let Some(display_name) = edit.display_name {
            workspace.display_name = display_name;
        }
        workspace.update_time = time(now_micros)?;
        workspace.version = next_version(workspace.version, now_micros);
        sqlx::query(
            "update identity.workspaces set display_name = $2, update_micros = $3, version = $4
             where id = $1",
        )
        .bind(workspace.id.uuid())
        .bind(&workspace.display_name)
        .bind(now_micros)
        .bind(workspace.version)
        .execute(&mut *transaction)
        .await?;
        self.database.observe("update_workspace", transaction.commit()).await?;
        Ok(workspace)
    }
}

pub(super) fn not_found(workspace: WorkspaceId) -> Failure {
    Error::NotFound(format!("workspaces/{workspace}")).into()
}
