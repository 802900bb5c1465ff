//! API keys.

use auth::{KeyDigest, Role};
use bus::topics::KEY_CHANGES;
use jiff::Timestamp;
use pg::outbox;
use proto::identity::v1::{
    AuditAction, CreateApiKeyResponse, RevokeApiKeyResponse, RotateApiKeyResponse,
};
use rpc::{ApiKeyId, Permissions, ServiceAccountId, WorkspaceId};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::act::{Act, Begun, Change, replayed};
use super::audit::Entry;
use super::members::stored_role;
use super::service_accounts;
use super::{Failure, Store, time};
use crate::domain::{ApiKey, Error, KEY_NOT_LIVE, LIVE_KEYS_MAX, Violation, next_version};
use crate::wire;

const COLUMNS: &str = "id, workspace_id, display_name, prefix, digest, scopes, expire_micros, \
    create_micros, last_use_micros, revoke_micros, version, service_account_id";

#[derive(Debug, FromRow)]
struct Row {
    id: Uuid,
    workspace_id: Uuid,
    display_name: String,
    prefix: String,
    digest: Vec<u8>,
    scopes: Vec<i32>,
    expire_micros: Option<i64>,
    create_micros: i64,
    last_use_micros: Option<i64>,
    revoke_micros: Option<i64>,
    version: i64,
    service_account_id: Option<Uuid>,
}

/// A key with whose it is.
#[derive(Debug, FromRow)]
struct OwnedRow {
    #[sqlx(flatten)]
    key: Row,
    role: Option<i32>,
    tier: i32,
}

impl TryFrom<Row> for ApiKey {
    type Error = Failure;

    fn try_from(row: Row) -> Result<Self, Failure> {
        Ok(ApiKey {
            id: ApiKeyId::from(row.id),
            workspace: WorkspaceId::from(row.workspace_id),
            display_name: row.display_name,
            prefix: row.prefix,
            scopes: Permissions::from_numbers(&row.scopes),
            service_account: row.service_account_id.map(ServiceAccountId::from),
            expire_time: row.expire_micros.map(time).transpose()?,
            create_time: time(row.create_micros)?,
            last_use_time: row.last_use_micros.map(time).transpose()?,
            revoke_time: row.revoke_micros.map(time).transpose()?,
            version: row.version,
        })
    }
}

/// A key as it is presented: what it is compared with, and what it is worth.
#[derive(Debug)]
pub(crate) struct Presented {
    pub key: ApiKey,
    pub digest: KeyDigest,
    /// Of the service account that owns it; none: the key is the workspace's own.
    pub role: Option<Role>,
    /// Of its workspace; a number of `linkmesh.common.v1.Tier`.
    pub tier: i32,
}

impl Store {
    /// Adds a key to its workspace, unless that has as many live ones as it may. The response has no secret; false: the key was
    /// made before.
    pub(crate) async fn create_api_key(
        &self,
        act: &Act<'_>,
        key: &ApiKey,
        digest: KeyDigest,
    ) -> Result<(CreateApiKeyResponse, bool), Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return Ok((replayed(&response)?, false)),
        };
        change.lock_workspace(key.workspace).await?;
        change.add_key(act, key, digest).await?;
        let names: Vec<_> = key.scopes.names().collect();
        let entry = Entry {
            action: AuditAction::ApiKeyCreated,
            resource: key.name(),
            details: &[("scopes", &names.join(" "))],
        };
        change.audit(key.workspace.uuid(), entry).await?;
        let response =
            CreateApiKeyResponse { api_key: Some(wire::api_key(key)), secret: String::new() };
        change.commit("create_api_key", &response).await?;
        Ok((response, true))
    }

    /// Replaces a key by one that `renew` makes of it, and lets the old one expire at `expire_time`. The response has no secret;
    /// false: the key was made before.
    pub(crate) async fn rotate_api_key(
        &self,
        act: &Act<'_>,
        (workspace, key): (WorkspaceId, ApiKeyId),
        expire_time: Timestamp,
        digest: KeyDigest,
        renew: impl Fn(&ApiKey) -> Result<ApiKey, rpc::Error>,
    ) -> Result<(RotateApiKeyResponse, bool), Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return Ok((replayed(&response)?, false)),
        };
        change.lock_workspace(workspace).await?;
        let mut old = locked(change.connection(), workspace, key).await?;
        let new = renew(&old)?;
        if !old.is_live(act.now) {
            return Err(Error::Conflict(KEY_NOT_LIVE).into());
        }
        old.version = next_version(old.version, act.micros());
        sqlx::query(
            "update identity.api_keys
             set expire_micros = least(coalesce(expire_micros, $2), $2), version = $3 where id = $1",
        )
        .bind(old.id.uuid())
        .bind(expire_time.as_microsecond())
        .bind(old.version)
        .execute(change.connection())
        .await?;
        // After the old one's end is set: with no overlap it does not count as live any more.
        change.add_key(act, &new, digest).await?;
        change.announce(vec![forget(&old.prefix, old.version)]).await?;
        let entry = Entry {
            action: AuditAction::ApiKeyRotated,
            resource: old.name(),
            details: &[("replaced_by", &new.name())],
        };
        change.audit(workspace.uuid(), entry).await?;
        let response =
            RotateApiKeyResponse { api_key: Some(wire::api_key(&new)), secret: String::new() };
        change.commit("rotate_api_key", &response).await?;
        Ok((response, true))
    }

    /// Reads a key.
    pub(crate) async fn api_key(
        &self,
        workspace: WorkspaceId,
        key: ApiKeyId,
    ) -> Result<ApiKey, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.api_keys where id = $1 and workspace_id = $2"
        )))
        .bind(key.uuid())
        .bind(workspace.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("get_api_key", statement).await?;
        row.ok_or_else(|| key_not_found(workspace, key))?.try_into()
    }

    /// Up to `size` keys of the workspace, the newest first, behind `behind`; and whether there are more.
    pub(crate) async fn list_api_keys(
        &self,
        workspace: WorkspaceId,
        behind: Option<(i64, ApiKeyId)>,
        size: usize,
    ) -> Result<(Vec<ApiKey>, bool), Failure> {
        let (behind_micros, behind_id) =
            behind.map_or((i64::MAX, Uuid::max()), |(micros, id)| (micros, id.uuid()));
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.api_keys
             where workspace_id = $1 and (create_micros, id) < ($2, $3)
             order by create_micros desc, id desc limit $4"
        )))
        .bind(workspace.uuid())
        .bind(behind_micros)
        .bind(behind_id)
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<Row> = self.database.observe("list_api_keys", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let keys = rows.into_iter().map(ApiKey::try_from).collect::<Result<_, Failure>>()?;
        Ok((keys, more))
    }

    /// Revokes a key and announces it; one that is revoked stays as it is.
    pub(crate) async fn revoke_api_key(
        &self,
        act: &Act<'_>,
        (workspace, key): (WorkspaceId, ApiKeyId),
    ) -> Result<RevokeApiKeyResponse, Failure> {
        let mut change = match self.begin(act).await? {
            Begun::Fresh(change) => change,
            Begun::Replayed(response) => return replayed(&response),
        };
        change.lock_workspace(workspace).await?;
        let mut key = locked(change.connection(), workspace, key).await?;
        if key.revoke_time.is_none() {
            key.revoke_time = Some(time(act.micros())?);
            key.version = next_version(key.version, act.micros());
            sqlx::query(
                "update identity.api_keys set revoke_micros = $2, version = $3 where id = $1",
            )
            .bind(key.id.uuid())
            .bind(act.micros())
            .bind(key.version)
            .execute(change.connection())
            .await?;
            change.announce(vec![forget(&key.prefix, key.version)]).await?;
            let entry =
                Entry { action: AuditAction::ApiKeyRevoked, resource: key.name(), details: &[] };
            change.audit(workspace.uuid(), entry).await?;
        }
        let response = RevokeApiKeyResponse { api_key: Some(wire::api_key(&key)) };
        change.commit("revoke_api_key", &response).await?;
        Ok(response)
    }

    /// The key of a public prefix, as the primary knows it.
    pub(crate) async fn api_key_by_prefix(
        &self,
        prefix: &str,
    ) -> Result<Option<Presented>, Failure> {
        let columns = COLUMNS.split(", ").map(|column| format!("k.{column}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {columns}, a.role, w.tier from identity.api_keys k
             join identity.workspaces w on w.id = k.workspace_id
             left join identity.service_accounts a on a.id = k.service_account_id
             where k.prefix = $1"
        )))
        .bind(prefix)
        .fetch_optional(self.database.primary());
        let row: Option<OwnedRow> = self.database.observe("authenticate", statement).await?;
        let Some(OwnedRow { key, role, tier }) = row else { return Ok(None) };
        let Some(digest) = KeyDigest::from_slice(&key.digest) else {
            return Err(Failure::Corrupt(format!("API key {}: digest", key.id)));
        };
        let role = role.map(stored_role).transpose()?;
        Ok(Some(Presented { key: key.try_into()?, digest, role, tier }))
    }

    /// Writes when keys were last presented, in microseconds since 1970; sorted by key.
    pub(crate) async fn write_last_uses(&self, uses: &[(ApiKeyId, i64)]) -> Result<(), Failure> {
        // Joined in the order of the ids, so that two instances lock the rows they share in one order.
        let statement = sqlx::query(
            "with uses as (
                 select k.id, u.micros from unnest($1::uuid[], $2::bigint[]) as u (id, micros)
                 join identity.api_keys k on k.id = u.id
                 order by k.id for no key update of k)
             update identity.api_keys k set last_use_micros = greatest(k.last_use_micros, uses.micros)
             from uses where k.id = uses.id",
        )
        .bind(uses.iter().map(|(key, _)| key.uuid()).collect::<Vec<_>>())
        .bind(uses.iter().map(|(_, micros)| *micros).collect::<Vec<_>>())
        .execute(self.database.primary());
        self.database.observe("write_last_uses", statement).await?;
        Ok(())
    }
}

impl Change<'_> {
    /// Counts a change of what every live key of a workspace is worth, and announces it to edges. The workspace is locked.
    pub(super) async fn outdate_keys(
        &mut self,
        act: &Act<'_>,
        workspace: WorkspaceId,
    ) -> Result<(), Failure> {
        // In the order of the ids, as the last uses are written.
        let changed: Vec<(String, i64)> = sqlx::query_as(
            "with live as (
                 select id from identity.api_keys where workspace_id = $1 and revoke_micros is null
                 and (expire_micros is null or expire_micros > $2) order by id for no key update)
             update identity.api_keys k set version = greatest(k.version + 1, $2)
             from live where k.id = live.id returning k.prefix, k.version",
        )
        .bind(workspace.uuid())
        .bind(act.micros())
        .fetch_all(self.connection())
        .await?;
        let changes = changed.iter().map(|(prefix, version)| forget(prefix, *version));
        self.announce(changes.collect()).await
    }

    /// Adds a key to its workspace, which is locked.
    async fn add_key(
        &mut self,
        act: &Act<'_>,
        key: &ApiKey,
        digest: KeyDigest,
    ) -> Result<(), Failure> {
        if let Some(account) = key.service_account {
            let account =
                service_accounts::found(self.connection(), key.workspace, account).await?;
            if let Some(scope) = key.scopes.without(account.role.permissions()).names().next() {
                let why = format!("must be within the service account's role, which lacks {scope}");
                return Err(Error::from(Violation::new("scopes", why)).into());
            }
        }
        let (live,): (i64,) = sqlx::query_as(
            "select count(*) from identity.api_keys where workspace_id = $1
             and revoke_micros is null and (expire_micros is null or expire_micros > $2)",
        )
        .bind(key.workspace.uuid())
        .bind(act.micros())
        .fetch_one(self.connection())
        .await?;
        if live >= LIVE_KEYS_MAX {
            return Err(Error::TooManyKeys.into());
        }
        sqlx::query(
            "insert into identity.api_keys (id, workspace_id, display_name, prefix, digest, scopes,
                 expire_micros, create_micros, version, service_account_id)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(key.id.uuid())
        .bind(key.workspace.uuid())
        .bind(&key.display_name)
        .bind(&key.prefix)
        .bind(digest.as_bytes().as_slice())
        .bind(key.scopes.numbers())
        .bind(key.expire_time.map(Timestamp::as_microsecond))
        .bind(act.micros())
        .bind(key.version)
        .bind(key.service_account.map(|account| account.uuid()))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Change<'_> {
    /// What a key may do in its workspace, which is locked; none if it is not live.
    pub(super) async fn scopes_of(
        &mut self,
        act: &Act<'_>,
        workspace: WorkspaceId,
        key: ApiKeyId,
    ) -> Result<Option<Permissions>, Failure> {
        let row: Option<(Vec<i32>, Option<i32>)> = sqlx::query_as(
            "select k.scopes, a.role from identity.api_keys k
             left join identity.service_accounts a on a.id = k.service_account_id
             where k.id = $1 and k.workspace_id = $2 and k.revoke_micros is null
                 and (k.expire_micros is null or k.expire_micros > $3) and a.delete_micros is null",
        )
        .bind(key.uuid())
        .bind(workspace.uuid())
        .bind(act.micros())
        .fetch_optional(self.connection())
        .await?;
        let Some((scopes, role)) = row else { return Ok(None) };
        let scopes = Permissions::from_numbers(&scopes);
        let role = role.map(stored_role).transpose()?;
        Ok(Some(role.map_or(scopes, |role| scopes.with_only(role.permissions()))))
    }
}

/// What tells edges to forget a key.
pub(super) fn forget(prefix: &str, version: i64) -> outbox::Change {
    outbox::Change {
        topic: KEY_CHANGES.name.into(),
        key: prefix.as_bytes().to_vec(),
        value: wire::api_key_changed(prefix, version),
    }
}

async fn locked(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    key: ApiKeyId,
) -> Result<ApiKey, Failure> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from identity.api_keys where id = $1 and workspace_id = $2 for update"
    )))
    .bind(key.uuid())
    .bind(workspace.uuid())
    .fetch_optional(connection)
    .await?;
    row.ok_or_else(|| key_not_found(workspace, key))?.try_into()
}

fn key_not_found(workspace: WorkspaceId, key: ApiKeyId) -> Failure {
    Error::NotFound(format!("workspaces/{workspace}/apiKeys/{key}")).into()
}
