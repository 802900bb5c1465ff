//! What a user was given to use once.

use auth::KeyDigest;
use jiff::Timestamp;
use prost::Message;
use rpc::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::answers::Answer;
use super::fields::TOKEN_PAYLOAD;
use super::{Failure, Store};
use crate::domain::{Error, Factor};

/// What a token is for; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum TokenKind {
    PasswordReset = 1,
    Challenge = 2,
    ProviderLink = 3,
}

/// A token that holds.
#[derive(Debug)]
pub(crate) struct FoundToken {
    pub user: UserId,
    pub payload: Option<zeroize::Zeroizing<Vec<u8>>>,
}

/// A token that is given out.
#[derive(Debug)]
pub(crate) struct NewToken<'a> {
    pub kind: TokenKind,
    pub digest: &'a KeyDigest,
    pub user: UserId,
    /// What else it stands for.
    pub payload: Option<&'a [u8]>,
    pub expire_time: Timestamp,
    /// What it is given out for.
    pub spends: Spends<'a>,
}

/// What is used up by what it makes possible: in one transaction with that, behind the claim of its request id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spends<'a> {
    Nothing,
    /// The second step of a sign-in, with the code that it asks for.
    Challenge {
        digest: &'a KeyDigest,
        factor: &'a Factor,
    },
    /// A link to a provider's account, which is made by it.
    Link {
        digest: &'a KeyDigest,
        provider: &'a str,
        subject_hash: &'a [u8; 32],
    },
}

/// Wrong answers to one token.
const FAILURES_MAX: i32 = 5;
/// Tokens of one user that hold at the same time: of more the oldest go.
const TOKENS_MAX: i64 = 20;

impl Store {
    /// Adds a token; answers with what was answered before instead, if that is what the request id stands for.
    pub(crate) async fn add_token<R: Message + Default>(
        &self,
        new: &NewToken<'_>,
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let row = new.digest.as_bytes();
        let payload = new.payload.map(|value| self.seal(TOKEN_PAYLOAD, row, value)).transpose()?;
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        self.spend(&mut transaction, new.user, new.spends, answer.now).await?;
        sqlx::query(
            "delete from identity.user_tokens where digest in (
                 select digest from identity.user_tokens where user_id = $1
                 order by expire_micros desc, digest offset $2)",
        )
        .bind(new.user.uuid())
        .bind(TOKENS_MAX - 1)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "insert into identity.user_tokens (digest, kind, user_id, payload, expire_micros)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(row.as_slice())
        .bind(new.kind as i16)
        .bind(new.user.uuid())
        .bind(payload)
        .bind(new.expire_time.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        self.complete_answer(&mut transaction, new.user, &answer).await?;
        self.database.observe("add_token", transaction.commit()).await?;
        if !matches!(new.spends, Spends::Nothing) {
            self.outbox.committed();
        }
        Ok(answer.response)
    }

    /// A token of this kind, if it holds.
    pub(crate) async fn token(
        &self,
        kind: TokenKind,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Failure> {
        let statement = sqlx::query_as(
            "select user_id, payload from identity.user_tokens
             where digest = $1 and kind = $2 and expire_micros > $3 and failures < $4",
        )
        .bind(digest.as_bytes().as_slice())
        .bind(kind as i16)
        .bind(now.as_microsecond())
        .bind(FAILURES_MAX)
        .fetch_optional(self.database.primary());
        let row: Option<(Uuid, Option<Vec<u8>>)> =
            self.database.observe("get_token", statement).await?;
        let Some((user, payload)) = row else { return Ok(None) };
        let payload = payload
            .map(|sealed| self.open(TOKEN_PAYLOAD, digest.as_bytes(), &sealed))
            .transpose()?;
        Ok(Some(FoundToken { user: UserId::from(user), payload }))
    }

    /// The same, for somebody who tries what goes with it: one try is counted, and after too many there is no token.
    pub(crate) async fn tried_token(
        &self,
        kind: TokenKind,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Failure> {
        let found = self.token(kind, digest, now).await?;
        let counted = found.is_some() && self.count_attempt(digest).await?;
        Ok(found.filter(|_| counted))
    }

    /// Counts a wrong answer, before the answer is looked at: attempts at once count as many.
    async fn count_attempt(&self, digest: &KeyDigest) -> Result<bool, Failure> {
        let statement = sqlx::query(
            "update identity.user_tokens set failures = failures + 1 where digest = $1 and failures < $2",
        )
        .bind(digest.as_bytes().as_slice())
        .bind(FAILURES_MAX)
        .execute(self.database.primary());
        Ok(self.database.observe("count_attempt", statement).await?.rows_affected() == 1)
    }

    /// Uses up what something hangs on, with the effect that this has itself.
    pub(super) async fn spend(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        spends: Spends<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (kind, digest) = match spends {
            Spends::Nothing => return Ok(()),
            Spends::Challenge { digest, .. } => (TokenKind::Challenge, digest),
            Spends::Link { digest, .. } => (TokenKind::ProviderLink, digest),
        };
        // Before its tokens, as whoever ends them all does.
        self.locked_user(transaction, user).await?;
        if !self.spend_token(transaction, kind, digest).await? {
            return Err(Error::TokenInvalid.into());
        }
        match spends {
            Spends::Nothing => Ok(()),
            Spends::Challenge { factor, .. } => {
                self.use_factor(transaction, user, factor, now).await
            }
            Spends::Link { provider, subject_hash, .. } => {
                self.link(transaction, provider, subject_hash, user, now).await
            }
        }
    }

    /// Uses a token up; false if someone else has.
    pub(super) async fn spend_token(
        &self,
        transaction: &mut PgConnection,
        kind: TokenKind,
        digest: &KeyDigest,
    ) -> Result<bool, Failure> {
        let deleted =
            sqlx::query("delete from identity.user_tokens where digest = $1 and kind = $2")
                .bind(digest.as_bytes().as_slice())
                .bind(kind as i16)
                .execute(transaction)
                .await?;
        Ok(deleted.rows_affected() == 1)
    }
}
