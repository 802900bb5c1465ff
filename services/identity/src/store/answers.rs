//! Responses under request ids that hold secrets or personal data: sealed, and kept for a day.
//!
//! What must stay true: such a response is nowhere but sealed, under an id of its own, and goes only to whoever sends the very request
//! again that it was the answer to. What would tell whether that request is right, such as a password's limit, comes before.

use jiff::Timestamp;
use pg::requests::Request;
use prost::Message;
use rpc::UserId;
use sqlx::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::act::replayed;
use super::fields::REQUEST_ANSWER;
use super::{Failure, Store};

/// Answers that one statement of a purge deletes, at most.
const PURGE_ROWS_MAX: i64 = 5_000;

/// What a call is answered with if it has its effect, under its request id if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a, R> {
    pub request: Option<Request<'a>>,
    pub now: Timestamp,
    pub response: R,
}

impl Store {
    /// What a call was answered with before, for whoever can't get to the effect any more.
    pub(crate) async fn repeated<R: Message + Default>(
        &self,
        request: Option<&Request<'_>>,
        now: Timestamp,
    ) -> Result<Option<R>, Failure> {
        if request.is_none() {
            return Ok(None);
        }
        let mut transaction = self.database.primary().begin().await?;
        let repeated = self.claim_sealed(&mut transaction, request, now.as_microsecond()).await?;
        transaction.rollback().await?;
        Ok(repeated)
    }

    /// Claims an answer's request id, if there is one: `Some` is the response to repeat instead.
    pub(super) async fn claim_answer<R: Message + Default>(
        &self,
        transaction: &mut PgConnection,
        answer: &Answer<'_, R>,
    ) -> Result<Option<R>, Failure> {
        let now_micros = answer.now.as_microsecond();
        self.claim_sealed(transaction, answer.request.as_ref(), now_micros).await
    }

    /// Keeps an answer, sealed, under its request id, if there is one: until the next day, or until its user is erased.
    pub(super) async fn complete_answer<R: Message>(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        answer: &Answer<'_, R>,
    ) -> Result<(), Failure> {
        let Some(request) = &answer.request else { return Ok(()) };
        let id = Uuid::now_v7();
        let response = Zeroizing::new(answer.response.encode_to_vec());
        let sealed = self.seal(REQUEST_ANSWER, id.as_bytes(), &response)?;
        self.requests.complete(&mut *transaction, request, id.as_bytes()).await?;
        sqlx::query(
            "insert into identity.answers (id, workspace_id, request_id, user_id, answer, create_micros)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(request.workspace)
        .bind(request.id)
        .bind(user.uuid())
        .bind(sealed)
        .bind(answer.now.as_microsecond())
        .execute(transaction)
        .await?;
        Ok(())
    }

    async fn claim_sealed<R: Message + Default>(
        &self,
        transaction: &mut PgConnection,
        request: Option<&Request<'_>>,
        now_micros: i64,
    ) -> Result<Option<R>, Failure> {
        let Some(id) = self.claim(&mut *transaction, request, now_micros).await? else {
            return Ok(None);
        };
        let corrupt = || Failure::Corrupt("a response is not sealed".to_owned());
        let id = Uuid::from_slice(&id).map_err(|_| corrupt())?;
        let found: Option<(Vec<u8>,)> =
            sqlx::query_as("select answer from identity.answers where id = $1")
                .bind(id)
                .fetch_optional(transaction)
                .await?;
        let (sealed,) = found.ok_or_else(corrupt)?;
        let response = self.open(REQUEST_ANSWER, id.as_bytes(), &sealed)?;
        replayed(&response).map(Some)
    }

    /// Deletes the answers that a user got, with their request ids.
    pub(super) async fn forget_answers(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
    ) -> Result<(), Failure> {
        sqlx::query(
            "with gone as (
                 delete from identity.answers where user_id = $1 returning workspace_id, request_id)
             delete from identity.requests r using gone g
             where r.workspace_id = g.workspace_id and r.request_id = g.request_id",
        )
        .bind(user.uuid())
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Deletes answers, with their request ids, from before this time, a few thousand at once; returns how many.
    pub(crate) async fn purge_answers(&self, before: Timestamp) -> Result<u64, Failure> {
        let mut purged = 0;
        loop {
            // Counts the answers: a request id may have been purged before, by its own age.
            let statement = sqlx::query_as(
                "with gone as (
                     delete from identity.answers where id in (
                         select id from identity.answers where create_micros < $1
                         order by create_micros limit $2)
                     returning workspace_id, request_id),
                 ids as (
                     delete from identity.requests r using gone g
                     where r.workspace_id = g.workspace_id and r.request_id = g.request_id)
                 select count(*) from gone",
            )
            .bind(before.as_microsecond())
            .bind(PURGE_ROWS_MAX)
            .fetch_one(self.database.primary());
            let (deleted,): (i64,) =
                self.database.observe("purge_request_answers", statement).await?;
            purged += deleted.unsigned_abs();
            if deleted < PURGE_ROWS_MAX {
                return Ok(purged);
            }
        }
    }
}
