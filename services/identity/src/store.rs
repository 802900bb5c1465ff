//! What is in Postgres: workspaces, who may do what in them, request ids, the audit log and the outbox, always under the schema
//! `identity`.
//!
//! What must stay true: an act, what is announced of it and what is logged of it are one transaction, and no secret is ever written.

mod act;
mod api_keys;
pub(crate) mod audit;
mod members;
mod service_accounts;
mod workspaces;

pub(crate) use act::Act;
pub(crate) use api_keys::Presented;
pub(crate) use service_accounts::ServiceAccountEdit;
pub(crate) use workspaces::WorkspaceEdit;

use jiff::Timestamp;
use pg::Database;
use pg::outbox::Outbox;
use pg::requests::{Claim, Request, Requests};
use sqlx::PgConnection;

use crate::domain;

/// What makes the schema what this version needs.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/identity");

/// The schema, and what is named after it.
const SCHEMA: &str = "identity";

/// The service's store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
    requests: Requests,
}

/// Why the store did not do it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A case that the caller can act on.
    Domain(domain::Error),
    /// Postgres, or what is in it.
    Database(sqlx::Error),
    /// A row that breaks our own rules.
    Corrupt(String),
    /// What is the wire's error already.
    Call(rpc::Error),
}

impl From<domain::Error> for Failure {
    fn from(error: domain::Error) -> Self {
        Failure::Domain(error)
    }
}

impl From<rpc::Error> for Failure {
    fn from(error: rpc::Error) -> Self {
        Failure::Call(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Failure::Database(error)
    }
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, outbox: Outbox::of(SCHEMA), requests: Requests::of(SCHEMA) }
    }

    /// Deletes request ids claimed before this time, in microseconds since 1970; returns how many.
    pub(crate) async fn purge_requests(&self, before_micros: i64) -> Result<u64, Failure> {
        Ok(self.requests.purge(&self.database, before_micros).await?)
    }

    /// Claims the request id, if there is one: `Some` is the response to repeat.
    async fn claim(
        &self,
        transaction: &mut PgConnection,
        request: Option<&Request<'_>>,
        now_micros: i64,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let Some(request) = request else { return Ok(None) };
        match self.requests.claim(transaction, request, now_micros).await? {
            Claim::Fresh => Ok(None),
            Claim::Replay(response) => Ok(Some(response)),
            Claim::Reused => Err(domain::Error::RequestIdReused.into()),
        }
    }

    /// Keeps the response under the request id, if there is one.
    async fn complete(
        &self,
        transaction: &mut PgConnection,
        request: Option<&Request<'_>>,
        response: &[u8],
    ) -> Result<(), Failure> {
        let Some(request) = request else { return Ok(()) };
        Ok(self.requests.complete(transaction, request, response).await?)
    }
}

/// A stored time.
fn time(micros: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(micros)
        .map_err(|_| Failure::Corrupt(format!("time {micros} µs since 1970")))
}
