//! Request ids (AIP-155): the table `<schema>.requests`, in which an id is committed together with what it caused.
//!
//! What must stay true: an id is claimed first and completed last, in the effect's own transaction. So a second call with the
//! same id waits for the first one's end, and finds either its response or nothing at all.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::Database;
use crate::partitions::is_identifier;

/// Rows that one statement of a purge deletes, at most.
const PURGE_ROWS_MAX: i64 = 5_000;

/// The request ids of one service.
#[derive(Debug, Clone)]
pub struct Requests {
    schema: &'static str,
}

/// A request id as its caller sent it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Ids of different workspaces have nothing to do with each other.
    pub workspace: Uuid,
    /// The id.
    pub id: Uuid,
    /// Of the method and the whole request.
    pub fingerprint: &'a [u8; 32],
}

/// What an id turned out to stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is new: have the effect, then [`Requests::complete`] it in the same transaction.
    Fresh,
    /// The effect was had before; this was the response.
    Replay(Vec<u8>),
    /// It stands for another request.
    Reused,
}

impl Requests {
    /// Those in `<schema>.requests`.
    ///
    /// # Panics
    /// If `schema` needs quotes.
    pub fn of(schema: &'static str) -> Self {
        assert!(is_identifier(schema), "not a schema name: {schema:?}");
        Self { schema }
    }

    /// Claims an id at the start of a transaction.
    ///
    /// # Errors
    /// As any statement; that another transaction holds the id for too long is `Unavailable`.
    pub async fn claim(
        &self,
        transaction: &mut PgConnection,
        request: &Request<'_>,
        now_micros: i64,
    ) -> Result<Claim, sqlx::Error> {
        let schema = self.schema;
        let claimed = sqlx::query(AssertSqlSafe(format!(
            "insert into {schema}.requests (workspace_id, request_id, fingerprint, create_micros)
             values ($1, $2, $3, $4) on conflict do nothing"
        )))
        .bind(request.workspace)
        .bind(request.id)
        .bind(request.fingerprint.as_slice())
        .bind(now_micros)
        .execute(&mut *transaction)
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(Claim::Fresh);
        }
        let (fingerprint, response): (Vec<u8>, Option<Vec<u8>>) =
            sqlx::query_as(AssertSqlSafe(format!(
                "select fingerprint, response from {schema}.requests
                 where workspace_id = $1 and request_id = $2"
            )))
            .bind(request.workspace)
            .bind(request.id)
            .fetch_one(transaction)
            .await?;
        match response {
            Some(response) if fingerprint == request.fingerprint => Ok(Claim::Replay(response)),
            _ => Ok(Claim::Reused),
        }
    }

    /// Keeps the response of a claimed id, at the end of the same transaction.
    ///
    /// # Errors
    /// As any statement.
    pub async fn complete(
        &self,
        transaction: &mut PgConnection,
        request: &Request<'_>,
        response: &[u8],
    ) -> Result<(), sqlx::Error> {
        let schema = self.schema;
        sqlx::query(AssertSqlSafe(format!(
            "update {schema}.requests set response = $3 where workspace_id = $1 and request_id = $2"
        )))
        .bind(request.workspace)
        .bind(request.id)
        .bind(response)
        .execute(transaction)
        .await
        .map(drop)
    }

    /// Deletes the ids claimed before a time, a few thousand at once; returns how many.
    ///
    /// # Errors
    /// As any statement; what was deleted until then stays deleted.
    pub async fn purge(&self, database: &Database, before_micros: i64) -> Result<u64, sqlx::Error> {
        let schema = self.schema;
        let mut purged = 0;
        loop {
            let statement = sqlx::query(AssertSqlSafe(format!(
                "delete from {schema}.requests where (workspace_id, request_id) in (
                     select workspace_id, request_id from {schema}.requests
                     where create_micros < $1 order by create_micros limit $2)"
            )))
            .bind(before_micros)
            .bind(PURGE_ROWS_MAX)
            .execute(database.primary());
            let deleted = database.observe("purge_requests", statement).await?.rows_affected();
            purged += deleted;
            if deleted < PURGE_ROWS_MAX.unsigned_abs() {
                return Ok(purged);
            }
        }
    }
}
