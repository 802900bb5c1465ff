//! Responses under request ids that hold secrets or personal data: sealed, and kept for a day.
//!
//! What must stay true: such a response is nowhere but sealed, under an id of its own, and goes only to whoever sends the very request
//! again that it was the answer to. What would tell whether that request is right, such as a password's limit, comes before.

use jiff::Timestamp;
use pg::requests::Request;
use prost::Message;
use sqlx::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::act::replayed;
use super::fields::REQUEST_ANSWER;
use super::{Failure, Store};

/// Rows that a purge deletes at once, at most.
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

    /// Keeps an answer, sealed, under its request id, if there is one.
    pub(super) async fn complete_answer<R: Message>(
        &self,
        transaction: &mut PgConnection,
        answer: &Answer<'_, R>,
    ) -> Result<(), Failure> {
        let Some(request) = &answer.request else { return Ok(()) };
        let id = Uuid::now_v7();
        let response = Zeroizing::new(answer.response.encode_to_vec());
        let sealed = self.seal(REQUEST_ANSWER, id.as_bytes(), &response)?;
        self.requests.complete(&mut *transaction, request, &sealed).await?;
        sqlx::query(
            "update identity.requests set answer_id = $3 where workspace_id = $1 and request_id = $2",
        )
        .bind(request.workspace)
        .bind(request.id)
        .bind(id)
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
        let Some(request) = request else { return Ok(None) };
        let sealed = self.claim(&mut *transaction, Some(request), now_micros).await?;
        let Some(sealed) = sealed else { return Ok(None) };
        let (id,): (Option<Uuid>,) = sqlx::query_as(
            "select answer_id from identity.requests where workspace_id = $1 and request_id = $2",
        )
        .bind(request.workspace)
        .bind(request.id)
        .fetch_one(transaction)
        .await?;
        let id = id.ok_or_else(|| Failure::Corrupt("a response is not sealed".to_owned()))?;
        let response = self.open(REQUEST_ANSWER, id.as_bytes(), &sealed)?;
        replayed(&response).map(Some)
    }

    /// Deletes sealed responses, with their request ids, from before this time; returns how many.
    pub(crate) async fn purge_answers(&self, before: Timestamp) -> Result<u64, Failure> {
        let statement = sqlx::query(
            "delete from identity.requests where answer_id in (
                 select answer_id from identity.requests
                 where answer_id is not null and create_micros < $1 order by create_micros limit $2)",
        )
        .bind(before.as_microsecond())
        .bind(PURGE_ROWS_MAX)
        .execute(self.database.primary());
        Ok(self.database.observe("purge_request_answers", statement).await?.rows_affected())
    }
}
