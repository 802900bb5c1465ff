//! What is in Postgres: links, domains, the directory, request ids and the outbox, always under the schema `links`.
//!
//! What must stay true: a link, its row in the directory and its row in the outbox change in one transaction, and the
//! directory's row is locked before the outbox is written, so that changes of one (domain, slug) go out in their order.

mod create;
mod directory;
mod domains;
mod links;
mod list;
mod rows;

pub(crate) use create::Creation;
pub(crate) use links::Edit;
pub(crate) use list::Listing;

use pg::Database;
use pg::outbox::Outbox;
use pg::requests::{Claim, Request, Requests};
use sqlx::PgConnection;

use crate::domain::{self, Host};

/// What makes the schema what this version needs.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/links");

/// The schema, and what is named after it.
const SCHEMA: &str = "links";

/// The service's store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
    requests: Requests,
    /// Where links go that name no domain.
    shared: Host,
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
}

impl From<domain::Error> for Failure {
    fn from(error: domain::Error) -> Self {
        Failure::Domain(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Failure::Database(error)
    }
}

/// What came of a call that may carry a request id.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It had its effect now.
    Done(T),
    /// It had its effect before, and this was the encoded response.
    Replayed(Vec<u8>),
}

impl Store {
    pub(crate) fn new(database: Database, shared: Host) -> Self {
        Self { database, outbox: Outbox::of(SCHEMA), requests: Requests::of(SCHEMA), shared }
    }

    /// The domain of links that name none.
    pub(crate) fn shared_domain(&self) -> &Host {
        &self.shared
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
        response: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Failure> {
        let Some(request) = request else { return Ok(()) };
        Ok(self.requests.complete(transaction, request, &response()).await?)
    }
}
