//! Sessions: one refresh token at a time, and nothing of those that have ended.

use auth::{KeyDigest, RefreshToken};
use bus::topics::SESSION_ENDS;
use jiff::{SignedDuration, Timestamp};
use pg::outbox::Change;
use pg::requests::Request;
use prost::Message;
use proto::events::v1::SessionEnded;
use proto::identity::v1::{AuditAction, EndAllSessionsResponse};
use rpc::{SessionId, UserId};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::act::replayed;
use super::answers::Answer;
use super::fields::{SESSION_ANSWER, SESSION_LABEL};
use super::tokens::Spends;
use super::{Failure, Store, time};
use crate::domain::Error;
use crate::domain::session::{self, Presented, Refreshed, SESSIONS_MAX, Verdict};

/// A session as its user sees it.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub label: String,
    pub create_time: Timestamp,
    pub refresh_time: Timestamp,
    pub expire_time: Timestamp,
}

/// A session that begins.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub id: SessionId,
    pub user: UserId,
    pub token: KeyDigest,
    pub label: &'a str,
    pub now: Timestamp,
    pub spends: Spends<'a>,
}

/// What came of a refresh.
#[derive(Debug)]
pub(crate) struct RefreshedSession {
    pub id: SessionId,
    pub user: UserId,
    pub expire_time: Timestamp,
    /// The token that holds now.
    pub token: String,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    token_digest: Vec<u8>,
    previous_digest: Option<Vec<u8>>,
    refresh_request: Option<Uuid>,
    refresh_answer: Option<Vec<u8>>,
    label: Vec<u8>,
    create_micros: i64,
    refresh_micros: i64,
    expire_micros: i64,
}

const COLUMNS: &str = "id, user_id, token_digest, previous_digest, refresh_request, refresh_answer, \
    label, create_micros, refresh_micros, expire_micros";

impl Store {
    /// The keyed hash that proves that a refresh token was issued.
    pub(crate) fn refresh_tag(&self, signed: &[u8]) -> [u8; 32] {
        self.keyring.hash("refresh-token", signed)
    }

    /// Begins a session, until [`session::expiry`]; of too many the ones unused for the longest end. Answers with what was answered
    /// before instead, if that is what the request id stands for.
    pub(crate) async fn begin_session<R: Message + Default>(
        &self,
        new: &NewSession<'_>,
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        // Its user is there, and stays until the session is.
        self.locked_user(&mut transaction, new.user).await?;
        self.spend(&mut transaction, new.user, new.spends, new.now).await?;
        let crowded: Vec<(Uuid,)> = sqlx::query_as(
            "delete from identity.sessions where id in (
                 select id from identity.sessions where user_id = $1
                 order by refresh_micros desc, id offset $2)
             returning id",
        )
        .bind(new.user.uuid())
        .bind(SESSIONS_MAX - 1)
        .fetch_all(&mut *transaction)
        .await?;
        self.tell_ends(&mut transaction, &crowded, new.now).await?;
        let expire_time = session::expiry(new.now, new.now);
        sqlx::query(
            "insert into identity.sessions (id, user_id, token_digest, label, create_micros, refresh_micros,
                 expire_micros)
             values ($1, $2, $3, $4, $5, $5, $6)",
        )
        .bind(new.id.uuid())
        .bind(new.user.uuid())
        .bind(new.token.as_bytes().as_slice())
        .bind(self.seal(SESSION_LABEL, new.id.as_bytes(), new.label.as_bytes())?)
        .bind(new.now.as_microsecond())
        .bind(expire_time.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        let session = (new.user, new.id);
        self.log(&mut transaction, session, AuditAction::UserSignedIn, new.now).await?;
        self.complete_answer(&mut transaction, new.user, &answer).await?;
        self.database.observe("begin_session", transaction.commit()).await?;
        self.outbox.committed();
        Ok(answer.response)
    }

    /// Replaces a refresh token that we issued, or ends the session that it was of.
    pub(crate) async fn refresh_session(
        &self,
        token: &RefreshToken,
        next: &RefreshToken,
        request: Option<Uuid>,
        now: Timestamp,
    ) -> Result<RefreshedSession, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from identity.sessions where id = $1 for update"
        )))
        .bind(Uuid::from_bytes(token.session()))
        .fetch_optional(&mut *transaction)
        .await?;
        let row = row.ok_or(Error::SessionEnded)?;
        let digest = token.digest();
        let is = |stored: &[u8]| {
            KeyDigest::from_slice(stored).is_some_and(|stored| stored.matches(&digest))
        };
        let presented = if is(&row.token_digest) {
            Presented::Current
        } else if row.previous_digest.as_deref().is_some_and(is) {
            Presented::Previous
        } else {
            Presented::Older
        };
        let last = Refreshed {
            at: time(row.refresh_micros)?,
            by: row.refresh_request,
            expire_time: time(row.expire_micros)?,
        };
        let (id, user) = (SessionId::from(row.id), UserId::from(row.user_id));
        let verdict = session::verdict(&last, presented, request, now);
        match verdict {
            Verdict::Repeat => {
                let sealed = row.refresh_answer.ok_or(Error::SessionEnded)?;
                let token = self.open_text(SESSION_ANSWER, id.as_bytes(), &sealed)?;
                Ok(RefreshedSession { id, user, expire_time: last.expire_time, token })
            }
            Verdict::Expire | Verdict::Reused => {
                if verdict == Verdict::Reused {
                    tracing::warn!(user = %user, session = %id, "a refresh token was used twice: the session is ended");
                }
                self.end_locked(&mut transaction, id, now).await?;
                if verdict == Verdict::Reused {
                    let action = AuditAction::UserSessionReused;
                    self.log(&mut transaction, (user, id), action, now).await?;
                }
                self.database.observe("end_session", transaction.commit()).await?;
                self.outbox.committed();
                Err(Error::SessionEnded.into())
            }
            Verdict::Refresh => {
                let revealed = next.reveal();
                // Kept for a moment, sealed, and only for whoever can ask for it again.
                let answer = request
                    .map(|_| self.seal(SESSION_ANSWER, id.as_bytes(), revealed.as_bytes()))
                    .transpose()?;
                let expire_time = session::expiry(time(row.create_micros)?, now);
                sqlx::query(
                    "update identity.sessions set token_digest = $2, previous_digest = $3,
                         refresh_request = $4, refresh_answer = $5, refresh_micros = $6, expire_micros = $7
                     where id = $1",
                )
                .bind(row.id)
                .bind(next.digest().as_bytes().as_slice())
                .bind(row.token_digest)
                .bind(request)
                .bind(answer)
                .bind(now.as_microsecond())
                .bind(expire_time.as_microsecond())
                .execute(&mut *transaction)
                .await?;
                self.database.observe("refresh_session", transaction.commit()).await?;
                Ok(RefreshedSession { id, user, expire_time, token: revealed.to_string() })
            }
        }
    }

    /// A user's sessions, the latest used first.
    pub(crate) async fn sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, Failure> {
        let statement = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from identity.sessions where user_id = $1 and expire_micros > $2
             order by refresh_micros desc, id limit $3"
        )))
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .bind(SESSIONS_MAX)
        .fetch_all(self.database.primary());
        let rows: Vec<Row> = self.database.observe("list_sessions", statement).await?;
        rows.into_iter()
            .map(|row| {
                Ok(Session {
                    id: SessionId::from(row.id),
                    user,
                    label: self.open_text(SESSION_LABEL, row.id.as_bytes(), &row.label)?,
                    create_time: time(row.create_micros)?,
                    refresh_time: time(row.refresh_micros)?,
                    expire_time: time(row.expire_micros)?,
                })
            })
            .collect()
    }

    /// Ends a session of a user; one that is not there has ended.
    pub(crate) async fn end_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        request: Option<&Request<'_>>,
    ) -> Result<(), Failure> {
        let mut transaction = self.database.primary().begin().await?;
        if self.claim(&mut transaction, request, now.as_microsecond()).await?.is_some() {
            return Ok(());
        }
        let owned: Option<(i32,)> = sqlx::query_as(
            "select 1 from identity.sessions where id = $1 and user_id = $2 for update",
        )
        .bind(session.uuid())
        .bind(user.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        if owned.is_none() {
            return Ok(());
        }
        self.end_locked(&mut transaction, session, now).await?;
        self.complete(&mut transaction, request, &[]).await?;
        self.database.observe("end_session", transaction.commit()).await?;
        self.outbox.committed();
        Ok(())
    }

    /// Ends all sessions of a user; says how many there were.
    pub(crate) async fn end_all_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        request: Option<&Request<'_>>,
    ) -> Result<EndAllSessionsResponse, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let before = self.claim(&mut transaction, request, now.as_microsecond()).await?;
        if let Some(response) = before {
            return replayed(&response);
        }
        let ended = self.end_sessions(&mut transaction, user, None, now).await?;
        let response = EndAllSessionsResponse { ended: i32::try_from(ended).unwrap_or(i32::MAX) };
        self.complete(&mut transaction, request, &response.encode_to_vec()).await?;
        self.database.observe("end_all_sessions", transaction.commit()).await?;
        self.outbox.committed();
        Ok(response)
    }

    /// Ends the sessions of a user, but one if it is said which.
    pub(super) async fn end_sessions(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        but: Option<SessionId>,
        now: Timestamp,
    ) -> Result<usize, Failure> {
        let ended: Vec<(Uuid,)> = sqlx::query_as(
            "delete from identity.sessions where user_id = $1 and id is distinct from $2 returning id",
        )
        .bind(user.uuid())
        .bind(but.map(|session| session.uuid()))
        .fetch_all(&mut *transaction)
        .await?;
        self.tell_ends(transaction, &ended, now).await?;
        Ok(ended.len())
    }

    async fn end_locked(
        &self,
        transaction: &mut PgConnection,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        sqlx::query("delete from identity.sessions where id = $1")
            .bind(session.uuid())
            .execute(&mut *transaction)
            .await?;
        self.tell_ends(transaction, &[(session.uuid(),)], now).await
    }

    /// Lets edges know which access tokens they must not take any more.
    async fn tell_ends(
        &self,
        transaction: &mut PgConnection,
        ended: &[(Uuid,)],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let skew = SignedDuration::from_secs(auth::access_token::SKEW_SECONDS);
        let expire_micros = (now + self.access_token_life + skew).as_microsecond();
        let changes = ended.iter().map(|(session,)| Change {
            topic: SESSION_ENDS.name.into(),
            key: session.as_bytes().to_vec(),
            value: SessionEnded {
                session_id: session.as_bytes().to_vec(),
                tokens_expire_unix_micros: expire_micros.unsigned_abs(),
            }
            .encode_to_vec(),
        });
        let changes: Vec<Change> = changes.collect();
        if changes.is_empty() {
            return Ok(());
        }
        Ok(self.outbox.append(transaction, changes).await?)
    }
}
