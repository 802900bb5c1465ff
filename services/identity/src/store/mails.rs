//! Mails on their way: written with what causes them, and sent by whoever leases them first.

use auth::KeyDigest;
use jiff::Timestamp;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::fields::MAIL_EMAIL;
use super::{Failure, Store};
use crate::domain::Email;

/// What a mail is about; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum MailKind {
    /// To prove the address of a sign-up.
    SignUp = 1,
    /// To set a new password.
    PasswordReset = 2,
    /// To become a member of a workspace.
    Invitation = 3,
}

impl MailKind {
    fn of(number: i16) -> Option<Self> {
        [Self::SignUp, Self::PasswordReset, Self::Invitation]
            .into_iter()
            .find(|kind| *kind as i16 == number)
    }
}

/// Invitations that are leased at once, at most: what else comes meanwhile waits for no more.
const INVITATIONS_AT_ONCE: i64 = 2;

/// A mail that is to be sent.
#[derive(Debug)]
pub(crate) struct NewMail<'a> {
    pub id: Uuid,
    pub kind: MailKind,
    pub email: &'a Email,
    pub now: Timestamp,
    pub expire_time: Timestamp,
}

/// A mail that is this process's to send until its lease ends.
#[derive(Debug)]
pub(crate) struct LeasedMail {
    pub id: Uuid,
    pub kind: MailKind,
    pub email: Email,
    /// How often it was tried before.
    pub attempts: i32,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    kind: i16,
    email: Vec<u8>,
    attempts: i32,
}

impl Store {
    /// Adds a mail to the transaction that causes it.
    pub(super) async fn add_mail(
        &self,
        transaction: &mut PgConnection,
        mail: &NewMail<'_>,
    ) -> Result<(), Failure> {
        sqlx::query(
            "insert into identity.mails (id, kind, email_hash, email, due_micros, expire_micros)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(mail.id)
        .bind(mail.kind as i16)
        .bind(self.email_hash(mail.email).as_slice())
        .bind(self.seal(MAIL_EMAIL, mail.id.as_bytes(), mail.email.as_str().as_bytes())?)
        .bind(mail.now.as_microsecond())
        .bind(mail.expire_time.as_microsecond())
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Adds a mail that nothing else goes with.
    pub(crate) async fn request_mail(
        &self,
        mail: &NewMail<'_>,
        request: Option<&pg::requests::Request<'_>>,
    ) -> Result<(), Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let replayed = self.claim(&mut transaction, request, mail.now.as_microsecond()).await?;
        if replayed.is_some() {
            return Ok(());
        }
        self.add_mail(&mut transaction, mail).await?;
        self.complete(&mut transaction, request, &[]).await?;
        self.database.observe("request_mail", transaction.commit()).await?;
        self.mails_waiting.notify_one();
        Ok(())
    }

    /// Leases mails that are due: invitations, which anybody may have sent to anybody, a few at a time and only if there are no others.
    /// One that does not open is left until its next lease.
    pub(crate) async fn lease_mails(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: i64,
    ) -> Result<Vec<LeasedMail>, Failure> {
        let first = [MailKind::SignUp, MailKind::PasswordReset];
        let mut rows = self.lease_kinds(&first, (now, until), max).await?;
        if rows.is_empty() {
            let few = max.min(INVITATIONS_AT_ONCE);
            rows = self.lease_kinds(&[MailKind::Invitation], (now, until), few).await?;
        }
        let mut leased = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(kind) = MailKind::of(row.kind) else { continue };
            match self.open_email(MAIL_EMAIL, row.id.as_bytes(), &row.email) {
                Ok(email) => {
                    leased.push(LeasedMail { id: row.id, kind, email, attempts: row.attempts });
                }
                Err(failure) => {
                    tracing::warn!(mail = %row.id, failure = ?failure, "a mail does not open");
                }
            }
        }
        Ok(leased)
    }

    async fn lease_kinds(
        &self,
        kinds: &[MailKind],
        (now, until): (Timestamp, Timestamp),
        max: i64,
    ) -> Result<Vec<Row>, Failure> {
        let kinds: Vec<i16> = kinds.iter().map(|kind| *kind as i16).collect();
        let statement = sqlx::query_as(
            "update identity.mails set due_micros = $2, attempts = attempts + 1 where id in (
                 select id from identity.mails
                 where kind = any($4) and due_micros <= $1 and expire_micros > $1
                 order by due_micros limit $3 for update skip locked)
             returning id, kind, email, attempts - 1 as attempts",
        )
        .bind(now.as_microsecond())
        .bind(until.as_microsecond())
        .bind(max)
        .bind(kinds)
        .fetch_all(self.database.primary());
        Ok(self.database.observe("lease_mails", statement).await?)
    }

    /// Gives a sign-up the token that its mail will carry; false if the sign-up is gone.
    pub(crate) async fn set_sign_up_token(
        &self,
        sign_up: Uuid,
        digest: &KeyDigest,
    ) -> Result<bool, Failure> {
        let statement = sqlx::query("update identity.sign_ups set token_digest = $2 where id = $1")
            .bind(sign_up)
            .bind(digest.as_bytes().as_slice())
            .execute(self.database.primary());
        Ok(self.database.observe("set_sign_up_token", statement).await?.rows_affected() == 1)
    }

    /// Forgets a mail that was sent, or that nobody needs.
    pub(crate) async fn delete_mail(&self, id: Uuid) -> Result<(), Failure> {
        let statement = sqlx::query("delete from identity.mails where id = $1")
            .bind(id)
            .execute(self.database.primary());
        self.database.observe("delete_mail", statement).await?;
        Ok(())
    }

    /// Puts a mail off that could not be sent.
    pub(crate) async fn retry_mail(&self, id: Uuid, due: Timestamp) -> Result<(), Failure> {
        let statement = sqlx::query("update identity.mails set due_micros = $2 where id = $1")
            .bind(id)
            .bind(due.as_microsecond())
            .execute(self.database.primary());
        self.database.observe("retry_mail", statement).await?;
        Ok(())
    }
}
