//! Users, and the sign-ups that become them.

use auth::KeyDigest;
use jiff::Timestamp;
use pg::requests::Request;
use proto::events::v1::user_event::Event;
use proto::events::v1::{UserPasswordChanged, UserRegistered};
use proto::identity::v1::UpdateUserResponse;
use rpc::UserId;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::answers::Answer;
use super::fields::{SIGN_UP_EMAIL, SIGN_UP_NAME, USER_EMAIL, USER_NAME};
use super::mails::{MailKind, NewMail};
use super::tokens::TokenKind;
use super::{Failure, Store, time};
use crate::domain::{Email, Error, User, next_version};
use crate::wire;

pub(super) const COLUMNS: &str = "id, email, display_name, password, \
    totp_enable_micros is not null as totp_enabled, create_micros, update_micros, version";

/// Sign-ups of one address that wait at the same time.
const SIGN_UPS_MAX: i64 = 5;

#[derive(FromRow)]
pub(super) struct Row {
    id: Uuid,
    email: Vec<u8>,
    display_name: Vec<u8>,
    password: Option<String>,
    totp_enabled: bool,
    create_micros: i64,
    update_micros: i64,
    version: i64,
}

/// An account that is asked for.
#[derive(Debug)]
pub(crate) struct NewSignUp<'a> {
    pub id: Uuid,
    pub email: &'a Email,
    pub display_name: &'a str,
    /// A PHC string.
    pub password: &'a str,
    pub now: Timestamp,
    pub expire_time: Timestamp,
    pub request: Option<Request<'a>>,
}

/// A sign-up whose token was presented.
#[derive(Debug)]
pub(crate) struct SignUp {
    pub id: Uuid,
    pub email: Email,
    pub display_name: String,
    /// A PHC string.
    pub password: String,
}

/// Who a sign-up became.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    pub user: UserId,
    /// False: by an earlier call with the same request id.
    pub is_new: bool,
}

impl Registered {
    /// By an earlier call, which left this under its request id.
    pub(crate) fn before(response: &[u8]) -> Result<Self, Failure> {
        let user = UserId::from_slice(response);
        let user = user.map_err(|error| Failure::Corrupt(error.to_string()))?;
        Ok(Self { user, is_new: false })
    }
}

impl Store {
    pub(super) fn user_of(&self, row: &Row) -> Result<User, Failure> {
        let id = row.id.as_bytes();
        Ok(User {
            id: UserId::from(row.id),
            email: self.open_email(USER_EMAIL, id, &row.email)?,
            display_name: self.open_text(USER_NAME, id, &row.display_name)?,
            password: row.password.clone(),
            totp_enabled: row.totp_enabled,
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
            version: row.version,
        })
    }

    /// The account of an address.
    pub(crate) async fn user_by_email(&self, email: &Email) -> Result<Option<User>, Failure> {
        let email_hash = self.email_hash(email);
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.users where email_hash = $1"
        )))
        .bind(email_hash.as_slice())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("user_by_email", statement).await?;
        row.map(|row| self.user_of(&row)).transpose()
    }

    /// The account of an id.
    pub(crate) async fn user(&self, user: UserId) -> Result<User, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.users where id = $1 and erase_micros is null"
        )))
        .bind(user.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<Row> = self.database.observe("get_user", statement).await?;
        self.user_of(&row.ok_or_else(|| not_found(user))?)
    }

    /// Keeps what was asked for, with the mail that goes out for it: the same work for an address that has an account.
    pub(crate) async fn sign_up(&self, new: NewSignUp<'_>) -> Result<(), Failure> {
        let now_micros = new.now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if self.claim(&mut transaction, new.request.as_ref(), now_micros).await?.is_some() {
            return Ok(());
        }
        let email_hash = self.email_hash(new.email);
        let row = new.id.as_bytes();
        // Of too many for one address the oldest go.
        sqlx::query(
            "delete from identity.sign_ups where id in (
                 select id from identity.sign_ups where email_hash = $1
                 order by expire_micros desc, id offset $2)",
        )
        .bind(email_hash.as_slice())
        .bind(SIGN_UPS_MAX - 1)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "insert into identity.sign_ups (id, email_hash, email, display_name, password, expire_micros)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.id)
        .bind(email_hash.as_slice())
        .bind(self.seal(SIGN_UP_EMAIL, row, new.email.as_str().as_bytes())?)
        .bind(self.seal(SIGN_UP_NAME, row, new.display_name.as_bytes())?)
        .bind(new.password)
        .bind(new.expire_time.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        let mail = NewMail {
            id: new.id,
            kind: MailKind::SignUp,
            email: new.email,
            now: new.now,
            expire_time: new.expire_time,
        };
        self.add_mail(&mut transaction, &mail).await?;
        self.complete(&mut transaction, new.request.as_ref(), &[]).await?;
        self.database.observe("sign_up", transaction.commit()).await?;
        self.mails_waiting.notify_one();
        Ok(())
    }

    /// The sign-up that a token is of, if it has not expired.
    pub(crate) async fn sign_up_by_token(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<SignUp>, Failure> {
        let statement = sqlx::query_as(
            "select id, email, display_name, password from identity.sign_ups
             where token_digest = $1 and expire_micros > $2",
        )
        .bind(digest.as_bytes().as_slice())
        .bind(now.as_microsecond())
        .fetch_optional(self.database.primary());
        let row: Option<(Uuid, Vec<u8>, Vec<u8>, String)> =
            self.database.observe("sign_up_by_token", statement).await?;
        let Some((id, email, display_name, password)) = row else { return Ok(None) };
        Ok(Some(SignUp {
            id,
            email: self.open_email(SIGN_UP_EMAIL, id.as_bytes(), &email)?,
            display_name: self.open_text(SIGN_UP_NAME, id.as_bytes(), &display_name)?,
            password,
        }))
    }

    /// Makes the account of a sign-up; the sign-up and all others of its address are gone with it.
    pub(crate) async fn register(
        &self,
        sign_up: &SignUp,
        now: Timestamp,
        request: Option<&Request<'_>>,
    ) -> Result<Registered, Failure> {
        let now_micros = now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim(&mut transaction, request, now_micros).await? {
            return Registered::before(&response);
        }
        let deleted = sqlx::query("delete from identity.sign_ups where email_hash = $1 or id = $2")
            .bind(self.email_hash(&sign_up.email).as_slice())
            .bind(sign_up.id)
            .execute(&mut *transaction)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(Error::TokenInvalid.into());
        }
        let new = NewUser {
            email: &sign_up.email,
            display_name: &sign_up.display_name,
            password: Some(&sign_up.password),
            provider: "",
        };
        let user = self.insert_user(&mut transaction, &new, now).await?;
        self.complete(&mut transaction, request, user.as_bytes()).await?;
        self.database.observe("register", transaction.commit()).await?;
        self.outbox.committed();
        Ok(Registered { user, is_new: true })
    }

    /// Adds a user whose address is proved, and says so.
    pub(super) async fn insert_user(
        &self,
        transaction: &mut PgConnection,
        new: &NewUser<'_>,
        now: Timestamp,
    ) -> Result<UserId, Failure> {
        let user = UserId::new();
        let row = user.as_bytes();
        let inserted = sqlx::query(
            "insert into identity.users (id, email_hash, email, display_name, password, create_micros,
                 update_micros, version)
             values ($1, $2, $3, $4, $5, $6, $6, $6) on conflict (email_hash) do nothing",
        )
        .bind(user.uuid())
        .bind(self.email_hash(new.email).as_slice())
        .bind(self.seal(USER_EMAIL, row, new.email.as_str().as_bytes())?)
        .bind(self.seal(USER_NAME, row, new.display_name.as_bytes())?)
        .bind(new.password)
        .bind(now.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(Error::EmailTaken.into());
        }
        let event = Event::Registered(UserRegistered { provider: new.provider.to_owned() });
        self.tell(transaction, user, event, now).await?;
        Ok(user)
    }

    /// Changes a user's name.
    pub(crate) async fn update_user(
        &self,
        user: UserId,
        etag: &str,
        display_name: Option<&str>,
        (request, now): (Option<Request<'_>>, Timestamp),
    ) -> Result<UpdateUserResponse, Failure> {
        let mut answer = Answer { request, now, response: UpdateUserResponse::default() };
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        let mut found = self.locked_user(&mut transaction, user).await?;
        if !etag.is_empty() && etag != found.etag() {
            return Err(Error::EtagMismatch.into());
        }
        if let Some(display_name) = display_name {
            display_name.clone_into(&mut found.display_name);
        }
        found.update_time = now;
        found.version = next_version(found.version, now.as_microsecond());
        sqlx::query(
            "update identity.users set display_name = $2, update_micros = $3, version = $4 where id = $1",
        )
        .bind(user.uuid())
        .bind(self.seal(USER_NAME, user.as_bytes(), found.display_name.as_bytes())?)
        .bind(now.as_microsecond())
        .bind(found.version)
        .execute(&mut *transaction)
        .await?;
        answer.response.user = Some(wire::user(&found));
        self.complete_answer(&mut transaction, user, &answer).await?;
        self.database.observe("update_user", transaction.commit()).await?;
        Ok(answer.response)
    }

    /// Sets a new password, by a reset's token if there is one, and ends the user's sessions but one.
    pub(crate) async fn set_password(&self, new: SetPassword<'_>) -> Result<(), Failure> {
        let now_micros = new.now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if self.claim(&mut transaction, new.request.as_ref(), now_micros).await?.is_some() {
            return Ok(());
        }
        let found = self.locked_user(&mut transaction, new.user).await?;
        if let Some(token) = new.token {
            let spent = self.spend_token(&mut transaction, TokenKind::PasswordReset, token).await?;
            if !spent {
                return Err(Error::TokenInvalid.into());
            }
        } else if found.password.as_deref() != new.replaces {
            return Err(Error::SignInRefused.into());
        }
        sqlx::query(
            "update identity.users set password = $2, update_micros = $3, version = $4 where id = $1",
        )
        .bind(new.user.uuid())
        .bind(new.password)
        .bind(now_micros)
        .bind(next_version(found.version, now_micros))
        .execute(&mut *transaction)
        .await?;
        // What was asked for under the old password is worth nothing now.
        sqlx::query("delete from identity.user_tokens where user_id = $1")
            .bind(new.user.uuid())
            .execute(&mut *transaction)
            .await?;
        self.end_sessions(&mut transaction, new.user, new.keep, new.now).await?;
        let event = Event::PasswordChanged(UserPasswordChanged {});
        self.tell(&mut transaction, new.user, event, new.now).await?;
        self.complete(&mut transaction, new.request.as_ref(), &[]).await?;
        self.database.observe("set_password", transaction.commit()).await?;
        self.outbox.committed();
        Ok(())
    }

    /// A user, locked until the transaction ends.
    pub(super) async fn locked_user(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
    ) -> Result<User, Failure> {
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "select {COLUMNS} from identity.users where id = $1 and erase_micros is null
             for no key update"
        )))
        .bind(user.uuid())
        .fetch_optional(transaction)
        .await?;
        self.user_of(&row.ok_or_else(|| not_found(user))?)
    }
}

/// A user that is to be added.
#[derive(Debug)]
pub(super) struct NewUser<'a> {
    pub email: &'a Email,
    pub display_name: &'a str,
    pub password: Option<&'a str>,
    /// Which provider proved the address; empty: a mail did.
    pub provider: &'a str,
}

/// A password that is to be set.
#[derive(Debug)]
pub(crate) struct SetPassword<'a> {
    pub user: UserId,
    /// A PHC string.
    pub password: &'a str,
    /// By which right: a reset's token,
    pub token: Option<&'a KeyDigest>,
    /// or that this one was proved to be the old one.
    pub replaces: Option<&'a str>,
    /// A session that goes on.
    pub keep: Option<rpc::SessionId>,
    pub now: Timestamp,
    pub request: Option<Request<'a>>,
}

pub(super) fn not_found(user: UserId) -> Failure {
    Error::NotFound(format!("users/{user}")).into()
}
