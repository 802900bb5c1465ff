//! Service accounts, and what becomes of their keys.

use auth::Role;
use proto::identity::v1::{
    AuditAction, CreateServiceAccountResponse, DeleteServiceAccountResponse,
    UpdateServiceAccountResponse,
};
use rpc::{ServiceAccountId, WorkspaceId};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::act::{Act, Begun, Change, replayed};
use super::audit::Entry;
use super::members::stored_role;
use super::{Failure, Store, time};
use crate::domain::{
    Error, SERVICE_ACCOUNTS_MAX, ServiceAccount, TOO_MANY_SERVICE_ACCOUNTS, service_account_name,
};
use crate::wire;

const COLUMNS: &str = "id, workspace_id, display_name, role, create_micros, update_micros";

#[derive(Debug, FromRow)]
struct Row {
    id: Uuid,
    workspace_id: Uuid,
    display_name: String,
    role: i32,
    create_micros: i64,
    update_micros: i64,
}

impl TryFrom<Row> for ServiceAccount {
    type Error = Failure;

    fn try_from(row: Row) -> Result<Self, Failure> {
        Ok(ServiceAccount {
            id: ServiceAccountId::from(row.id),
            workspace: WorkspaceId::from(row.workspace_id),
            display_name: row.display_name,
            role: stored_role(row.role)?,
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
        })
    }
}

/// What an update changes.
#[derive(Debug, Default)]
pub(crate) struct ServiceAccountEdit {
    pub display_name: Option<String>,
    pub role: Option<Role>,
}

impl Store {
    /// Adds a service account.
    pub(crate) async fn create_service_account(
        &self,
        act: &Act<'_>,
        account: &ServiceAccount,
    ) -> Result<CreateServiceAccountResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        let workspace = account.workspace;
        change.lock_workspace(workspace).await?;
        let (accounts,): (i64,) = sqlx::query_as(
            "select count(*) from identity.service_accounts
             where workspace_id = $1 and delete_micros is null",
        )
        .bind(workspace.uuid())
        .fetch_one(change.connection())
        .await?;
        if accounts >= SERVICE_ACCOUNTS_MAX {
            return Err(Error::Conflict(TOO_MANY_SERVICE_ACCOUNTS).into());
        }
        sqlx::query(
            "insert into identity.service_accounts
                 (id, workspace_id, display_name, role, create_micros, update_micros)
             values ($1, $2, $3, $4, $5, $5)",
        )
        .bind(account.id.uuid())
        .bind(workspace.uuid())
        .bind(&account.display_name)
        .bind(account.role.number())
        .bind(act.micros())
        .execute(change.connection())
        .await?;
        change.log(AuditAction::ServiceAccountCreated, account).await?;
        let response =
            CreateServiceAccountResponse { service_account: Some(wire::service_account(account)) };
        change.commit("create_service_account", &response).await?;
        Ok(response)
    }

    /// Reads a service account.
    pub(crate) async fn service_account(
        &self,
        workspace: WorkspaceId,
        account: ServiceAccountId,
    ) -> Result<ServiceAccount, Failure> {
        let mut connection = self.database.primary().acquire().await?;
        let reading = found(&mut connection, workspace, account);
        self.database.observe("get_service_account", reading).await
    }

    /// Up to `size` service accounts in the order of their ids, behind `behind`; and whether there are more.
    pub(crate) async fn list_service_accounts(
        &self,
        workspace: WorkspaceId,
        behind: Option<ServiceAccountId>,
        size: usize,
    ) -> Result<(Vec<ServiceAccount>, bool), Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.service_accounts
             where workspace_id = $1 and id > $2 and delete_micros is null order by id limit $3"
        )))
        .bind(workspace.uuid())
        .bind(behind.map_or(Uuid::nil(), |account| account.uuid()))
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<Row> = self.database.observe("list_service_accounts", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let accounts =
            rows.into_iter().map(ServiceAccount::try_from).collect::<Result<_, Failure>>()?;
        Ok((accounts, more))
    }

    /// Changes a service account. `allow` decides on it as it is.
    pub(crate) async fn update_service_account(
        &self,
        act: &Act<'_>,
        (workspace, account): (WorkspaceId, ServiceAccountId),
        edit: ServiceAccountEdit,
        allow: impl Fn(&ServiceAccount) -> Result<(), rpc::Error>,
    ) -> Result<UpdateServiceAccountResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        change.lock_workspace(workspace).await?;
        let mut account = found(change.connection(), workspace, account).await?;
        allow(&account)?;
        let old = account.role;
        if let Some(display_name) = edit.display_name {
            account.display_name = display_name;
        }
        account.role = edit.role.unwrap_or(old);
        account.update_time = time(act.micros())?;
        sqlx::query(
            "update identity.service_accounts set display_name = $2, role = $3, update_micros = $4
             where id = $1",
        )
        .bind(account.id.uuid())
        .bind(&account.display_name)
        .bind(account.role.number())
        .bind(act.micros())
        .execute(change.connection())
        .await?;
        if account.role != old {
            change.change_keys_of(act, account.id, None).await?;
        }
        change.log(AuditAction::ServiceAccountUpdated, &account).await?;
        let response =
            UpdateServiceAccountResponse { service_account: Some(wire::service_account(&account)) };
        change.commit("update_service_account", &response).await?;
        Ok(response)
    }

    /// Deletes a service account and revokes its keys. `allow` decides on it as it is.
    pub(crate) async fn delete_service_account(
        &self,
        act: &Act<'_>,
        (workspace, account): (WorkspaceId, ServiceAccountId),
        allow: impl Fn(&ServiceAccount) -> Result<(), rpc::Error>,
    ) -> Result<DeleteServiceAccountResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        change.lock_workspace(workspace).await?;
        let account = found(change.connection(), workspace, account).await?;
        allow(&account)?;
        sqlx::query("update identity.service_accounts set delete_micros = $2 where id = $1")
            .bind(account.id.uuid())
            .bind(act.micros())
            .execute(change.connection())
            .await?;
        change.change_keys_of(act, account.id, Some(act.micros())).await?;
        change.log(AuditAction::ServiceAccountDeleted, &account).await?;
        change.commit("delete_service_account", &DeleteServiceAccountResponse {}).await?;
        Ok(DeleteServiceAccountResponse {})
    }
}

impl Change<'_> {
    async fn log(&mut self, action: AuditAction, account: &ServiceAccount) -> Result<(), Failure> {
        let role = account.role.name();
        let entry = Entry { action, resource: account.name(), details: &[("role", role)] };
        self.audit(account.workspace.uuid(), entry).await
    }

    /// Announces that an account's keys are worth something else now, or nothing: then they are revoked.
    async fn change_keys_of(
        &mut self,
        act: &Act<'_>,
        account: ServiceAccountId,
        revoke_micros: Option<i64>,
    ) -> Result<(), Failure> {
        // A workspace has a bounded number of live keys, so these are as few.
        let changed: Vec<(String, i64)> = sqlx::query_as(
            "update identity.api_keys set revoke_micros = $3, version = greatest(version + 1, $2)
             where service_account_id = $1 and revoke_micros is null
                 and (expire_micros is null or expire_micros > $2)
             returning prefix, version",
        )
        .bind(account.uuid())
        .bind(act.micros())
        .bind(revoke_micros)
        .fetch_all(self.connection())
        .await?;
        let changes =
            changed.iter().map(|(prefix, version)| super::api_keys::forget(prefix, *version));
        self.announce(changes.collect()).await
    }
}

/// A service account that is not deleted.
pub(super) async fn found(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    account: ServiceAccountId,
) -> Result<ServiceAccount, Failure> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from identity.service_accounts
         where id = $1 and workspace_id = $2 and delete_micros is null"
    )))
    .bind(account.uuid())
    .bind(workspace.uuid())
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or_else(|| Error::NotFound(service_account_name(workspace, account)))?;
    row.try_into()
}
