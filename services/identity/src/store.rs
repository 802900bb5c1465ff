//! What is in Postgres: users, workspaces, who may do what in them, request ids, the audit log and the outbox, always under the schema
//! `identity`.
//!
//! What must stay true: an act, what is announced of it and what is logged of it are one transaction, no secret is ever written, and
//! nothing personal but sealed.

mod act;
mod answers;
mod api_keys;
pub(crate) mod audit;
mod erasure;
mod events;
mod factors;
mod fields;
mod grants;
mod invitations;
mod limits;
mod mails;
mod members;
mod providers;
mod reseal;
mod service_accounts;
mod sessions;
mod signing_keys;
mod tokens;
mod users;
mod workspaces;

pub(crate) use act::{Act, replayed};
pub(crate) use answers::Answer;
pub(crate) use api_keys::Presented;
pub(crate) use erasure::Holdings;
pub(crate) use invitations::InvitedTo;
pub(crate) use mails::{LeasedMail, MailKind, NewMail};
pub(crate) use providers::Flow;
pub(crate) use reseal::ResealPlace;
pub(crate) use service_accounts::ServiceAccountEdit;
pub(crate) use sessions::{NewSession, Session};
pub(crate) use signing_keys::{NewKeyPair, StoredKey};
pub(crate) use tokens::{NewToken, Spends, TokenKind};
pub(crate) use users::{NewSignUp, Registered, SetPassword};
pub(crate) use workspaces::WorkspaceEdit;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pg::Database;
use pg::outbox::Outbox;
use pg::requests::{Claim, Request, Requests};
use seal::Keyring;
use sqlx::PgConnection;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain;

/// What makes the schema what this version needs.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/identity");

/// The schema, and what is named after it.
const SCHEMA: &str = "identity";

/// The methods whose request ids are looked up by an address.
const ADDRESS_METHODS: [&str; 3] = ["SignUp", "SignIn", "RequestPasswordReset"];

/// The service's store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
    /// Wakes whoever sends mails.
    pub(crate) mails_waiting: Arc<Notify>,
    requests: Requests,
    keyring: Keyring,
    /// How long access tokens live: as long, the end of a session has to be told.
    access_token_life: SignedDuration,
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
    /// A value that can't be sealed, or does not open.
    Sealed(String),
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
    pub(crate) fn new(
        database: Database,
        keyring: Keyring,
        access_token_life: SignedDuration,
    ) -> Self {
        Self {
            database,
            outbox: Outbox::of(SCHEMA),
            mails_waiting: Arc::default(),
            requests: Requests::of(SCHEMA),
            keyring,
            access_token_life,
        }
    }

    /// What a request id stands for, when the request holds a secret or an address: keyed, since a bare hash of one could be
    /// tried against.
    pub(crate) fn keyed_fingerprint(&self, fingerprint: &[u8; 32]) -> [u8; 32] {
        self.keyring.hash("request", fingerprint)
    }

    /// Where the request ids of a call of nobody yet are looked up: by its method, and by whom it says to be of. Keyed, as what is made
    /// of an address, a token or a password.
    pub(crate) fn namespace(&self, method: &str, of: &str) -> Uuid {
        let hash = self.keyring.hash("request-namespace", format!("{method}\0{of}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
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

    /// The response to repeat for a request id, for whoever can't get to the effect any more.
    pub(crate) async fn replayed(
        &self,
        request: Option<&Request<'_>>,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let replayed = self.claim(&mut transaction, request, now.as_microsecond()).await?;
        transaction.rollback().await?;
        Ok(replayed)
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
