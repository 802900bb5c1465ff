//! A mutating call as one transaction: the request id, the effect, what is announced, what is logged, and the response, all of it
//! or nothing.

use jiff::Timestamp;
use pg::outbox;
use pg::requests::Request;
use prost::Message;
use rpc::{Principal, WorkspaceId};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::workspaces::not_found;
use super::{Failure, Store, audit};

/// Who does something, under which request id, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act<'a> {
    pub by: &'a Principal,
    pub request: Option<Request<'a>>,
    pub now: Timestamp,
}

impl Act<'_> {
    /// Microseconds since 1970.
    pub(super) fn micros(&self) -> i64 {
        self.now.as_microsecond()
    }
}

/// What came of an act's beginning.
pub(super) enum Begun<'a> {
    /// Have the effect, then commit.
    Fresh(Change<'a>),
    /// It was had before; this was the response.
    Replayed(Vec<u8>),
}

/// The transaction of an act. Dropped, it changes nothing.
pub(super) struct Change<'a> {
    store: &'a Store,
    act: Act<'a>,
    transaction: Transaction<'static, Postgres>,
    announced: bool,
}

impl Store {
    /// Begins the transaction of an act and claims its request id.
    pub(super) async fn begin<'a>(&'a self, act: &Act<'a>) -> Result<Begun<'a>, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let replayed = self.claim(&mut transaction, act.request.as_ref(), act.micros()).await?;
        Ok(match replayed {
            Some(response) => Begun::Replayed(response),
            None => Begun::Fresh(Change { store: self, act: *act, transaction, announced: false }),
        })
    }
}

impl Change<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Locks the workspace: what is counted in it stays true until the commit. The first lock of every act in it.
    pub(super) async fn lock_workspace(&mut self, workspace: WorkspaceId) -> Result<(), Failure> {
        let found: Option<(i32,)> =
            sqlx::query_as("select 1 from identity.workspaces where id = $1 for no key update")
                .bind(workspace.uuid())
                .fetch_optional(self.connection())
                .await?;
        found.map(drop).ok_or_else(|| not_found(workspace))
    }

    /// Adds to what is put on the bus.
    pub(super) async fn announce(&mut self, changes: Vec<outbox::Change>) -> Result<(), Failure> {
        self.announced |= !changes.is_empty();
        Ok(self.store.outbox.append(&mut self.transaction, changes).await?)
    }

    /// Adds to the audit log of a workspace or a user.
    pub(super) async fn audit(
        &mut self,
        stream: Uuid,
        entry: audit::Entry<'_>,
    ) -> Result<(), Failure> {
        let event = audit::event(Some(self.act.by), entry, self.act.now);
        audit::append(&mut self.transaction, stream, &event).await
    }

    /// Commits, and keeps the response under the request id.
    pub(super) async fn commit(
        mut self,
        name: &'static str,
        response: &impl Message,
    ) -> Result<(), Failure> {
        let (store, request) = (self.store, self.act.request);
        store.complete(&mut self.transaction, request.as_ref(), &response.encode_to_vec()).await?;
        store.database.observe(name, self.transaction.commit()).await?;
        if self.announced {
            store.outbox.committed();
        }
        Ok(())
    }
}

/// A response that was kept under a request id.
pub(crate) fn replayed<M: Message + Default>(response: &[u8]) -> Result<M, Failure> {
    M::decode(response)
        .map_err(|error| Failure::Corrupt(format!("the response of a request id: {error}")))
}
