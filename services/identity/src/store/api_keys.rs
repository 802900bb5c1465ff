//! API keys.

use auth::KeyDigest;
use jiff::Timestamp;
use pg::outbox::Change;
use pg::requests::Request;
use rpc::{ApiKeyId, Permissions, WorkspaceId};
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::workspaces::not_found;
use super::{Failure, Outcome, Store, time};
use crate::domain::{ApiKey, Error, LIVE_KEYS_MAX, next_version};
use crate::wire;

const COLUMNS: &str = "id, workspace_id, display_name, prefix, digest, scopes, expire_micros, \
    create_micros, last_use_micros, revoke_micros, version";

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
}

impl TryFrom<Row> for Digested {
    type Error = Failure;

    fn try_from(row: Row) -> Result<Self, Failure> {
        let Some(digest) = KeyDigest::from_slice(&row.digest) else {
            return Err(Failure::Corrupt(format!("API key {}: digest", row.id)));
        };
        let key = ApiKey {
            id: ApiKeyId::from(row.id),
            workspace: WorkspaceId::from(row.workspace_id),
            display_name: row.display_name,
            prefix: row.prefix,
            scopes: Permissions::from_numbers(&row.scopes),
            expire_time: row.expire_micros.map(time).transpose()?,
            create_time: time(row.create_micros)?,
            last_use_time: row.last_use_micros.map(time).transpose()?,
            revoke_time: row.revoke_micros.map(time).transpose()?,
            version: row.version,
        };
        Ok(Digested { key, digest })
    }
}

/// A key with what a presented one is compared with.
#[derive(Debug)]
pub(crate) struct Digested {
    pub key: ApiKey,
    pub digest: KeyDigest,
}

/// A key that is to be created.
pub(crate) struct NewKey<'a> {
    pub key: &'a ApiKey,
    pub digest: KeyDigest,
    pub request: Option<Request<'a>>,
    /// To answer the request id's next call with; holds no secret.
    pub response: &'a [u8],
}

impl Store {
    /// Adds a key to its workspace, unless that has as many live ones as it may.
    pub(crate) async fn create_api_key(&self, new: NewKey<'_>) -> Result<Outcome<()>, Failure> {
        let NewKey { key, digest, request, response } = new;
        let now_micros = key.create_time.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim(&mut transaction, request.as_ref(), now_micros).await? {
            return Ok(Outcome::Replayed(response));
        }
        // The lock makes the count below true until the key is there.
        let found: Option<(i32,)> =
            sqlx::query_as("select 1 from identity.workspaces where id = $1 for no key update")
                .bind(key.workspace.uuid())
                .fetch_optional(&mut *transaction)
                .await?;
        if found.is_none() {
            return Err(not_found(key.workspace));
        }
        let (live,): (i64,) = sqlx::query_as(
            "select count(*) from identity.api_keys where workspace_id = $1
             and revoke_micros is null and (expire_micros is null or expire_micros > $2)",
        )
        .bind(key.workspace.uuid())
        .bind(now_micros)
        .fetch_one(&mut *transaction)
        .await?;
        if live >= LIVE_KEYS_MAX {
            return Err(Error::TooManyKeys.into());
        }
        sqlx::query(
            "insert into identity.api_keys (id, workspace_id, display_name, prefix, digest, scopes,
                 expire_micros, create_micros, version)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(key.id.uuid())
        .bind(key.workspace.uuid())
        .bind(&key.display_name)
        .bind(&key.prefix)
        .bind(digest.as_bytes().as_slice())
        .bind(key.scopes.numbers())
        .bind(key.expire_time.map(Timestamp::as_microsecond))
        .bind(now_micros)
        .bind(key.version)
        .execute(&mut *transaction)
        .await?;
        self.complete(&mut transaction, request.as_ref(), response).await?;
        self.database.observe("create_api_key", transaction.commit()).await?;
        Ok(Outcome::Done(()))
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
        let found = Digested::try_from(row.ok_or_else(|| key_not_found(workspace, key))?)?;
        Ok(found.key)
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
        let keys = rows.into_iter().map(|row| Ok(Digested::try_from(row)?.key));
        Ok((keys.collect::<Result<_, Failure>>()?, more))
    }

    /// Revokes a key and announces it; one that is revoked stays as it is.
    pub(crate) async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        key: ApiKeyId,
        now: Timestamp,
    ) -> Result<ApiKey, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.api_keys where id = $1 and workspace_id = $2 for update"
        )))
        .bind(key.uuid())
        .bind(workspace.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        let mut key = Digested::try_from(row.ok_or_else(|| key_not_found(workspace, key))?)?.key;
        if key.revoke_time.is_some() {
            return Ok(key);
        }
        let now_micros = now.as_microsecond();
        key.revoke_time = Some(time(now_micros)?);
        key.version = next_version(key.version, now_micros);
        sqlx::query("update identity.api_keys set revoke_micros = $2, version = $3 where id = $1")
            .bind(key.id.uuid())
            .bind(now_micros)
            .bind(key.version)
            .execute(&mut *transaction)
            .await?;
        let change = Change {
            topic: bus::topics::KEY_CHANGES.name.into(),
            key: key.prefix.clone().into_bytes(),
            value: wire::api_key_changed(&key),
        };
        self.outbox.append(&mut transaction, vec![change]).await?;
        self.database.observe("revoke_api_key", transaction.commit()).await?;
        self.outbox.committed();
        Ok(key)
    }

    /// The key of a public prefix, as the primary knows it.
    pub(crate) async fn api_key_by_prefix(
        &self,
        prefix: &str,
    ) -> Result<Option<Digested>, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.api_keys where prefix = $1"
        )))
        .bind(prefix)
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("authenticate", statement).await?;
        row.map(Digested::try_from).transpose()
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

fn key_not_found(workspace: WorkspaceId, key: ApiKeyId) -> Failure {
    Error::NotFound(format!("workspaces/{workspace}/apiKeys/{key}")).into()
}
