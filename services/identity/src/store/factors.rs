//! Second factors: a secret that is sealed, the last time step that was taken, and recovery codes that are left.

use jiff::Timestamp;
use prost::Message;
use proto::events::v1::UserSecondFactorChanged;
use proto::events::v1::user_event::Event;
use rpc::UserId;
use sqlx::PgConnection;
use zeroize::Zeroizing;

use super::answers::Answer;
use super::fields::USER_TOTP;
use super::users::not_found;
use super::{Failure, Store};
use crate::domain::{Error, Factor, recovery, totp};

/// A user's factor, locked.
struct Held {
    secret: Option<Zeroizing<Vec<u8>>>,
    is_enabled: bool,
    last_step: i64,
}

impl Store {
    /// Keeps a new secret that is not confirmed yet.
    pub(crate) async fn begin_totp<R: Message + Default>(
        &self,
        user: UserId,
        secret: &[u8],
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let sealed = self.seal(USER_TOTP, user.as_bytes(), secret)?;
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        let held = self.held_factor(&mut transaction, user).await?;
        if held.is_enabled {
            return Err(Error::Conflict("the second factor is enabled; disable it first").into());
        }
        sqlx::query("update identity.users set totp_secret = $2, totp_step = 0 where id = $1")
            .bind(user.uuid())
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
        self.complete_answer(&mut transaction, user, &answer).await?;
        self.database.observe("begin_totp", transaction.commit()).await?;
        Ok(answer.response)
    }

    /// Enables the factor if the code is of its secret, with these recovery codes.
    pub(crate) async fn confirm_totp<R: Message + Default>(
        &self,
        user: UserId,
        code: &str,
        recovery_codes: &[String],
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let now = answer.now;
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        let held = self.held_factor(&mut transaction, user).await?;
        let Some(secret) = held.secret.filter(|_| !held.is_enabled) else {
            return Err(Error::Conflict("no second factor was begun, or it is enabled").into());
        };
        let step = totp::step_of(&secret, code, now.as_second(), held.last_step);
        let step = step.ok_or(Error::FactorRefused)?;
        sqlx::query(
            "update identity.users set totp_enable_micros = $2, totp_step = $3, update_micros = $2,
                 version = greatest(version + 1, $2) where id = $1",
        )
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .bind(step)
        .execute(&mut *transaction)
        .await?;
        self.replace_codes(&mut transaction, user, recovery_codes).await?;
        let event = Event::SecondFactorChanged(UserSecondFactorChanged { enabled: true });
        self.tell(&mut transaction, user, event, now).await?;
        self.complete_answer(&mut transaction, user, &answer).await?;
        self.database.observe("confirm_totp", transaction.commit()).await?;
        self.outbox.committed();
        Ok(answer.response)
    }

    /// Disables the factor, if it is proved.
    pub(crate) async fn disable_totp<R: Message + Default>(
        &self,
        user: UserId,
        factor: &Factor,
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let now = answer.now;
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        self.use_factor(&mut transaction, user, factor, now).await?;
        sqlx::query(
            "update identity.users set totp_enable_micros = null, totp_secret = null, update_micros = $2,
                 version = greatest(version + 1, $2) where id = $1",
        )
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        self.replace_codes(&mut transaction, user, &[]).await?;
        let event = Event::SecondFactorChanged(UserSecondFactorChanged { enabled: false });
        self.tell(&mut transaction, user, event, now).await?;
        self.complete_answer(&mut transaction, user, &answer).await?;
        self.database.observe("disable_totp", transaction.commit()).await?;
        self.outbox.committed();
        Ok(answer.response)
    }

    /// Replaces the recovery codes, if the factor is proved.
    pub(crate) async fn replace_recovery_codes<R: Message + Default>(
        &self,
        user: UserId,
        factor: &Factor,
        codes: &[String],
        answer: Answer<'_, R>,
    ) -> Result<R, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim_answer(&mut transaction, &answer).await? {
            return Ok(response);
        }
        self.use_factor(&mut transaction, user, factor, answer.now).await?;
        self.replace_codes(&mut transaction, user, codes).await?;
        self.complete_answer(&mut transaction, user, &answer).await?;
        self.database.observe("replace_recovery_codes", transaction.commit()).await?;
        Ok(answer.response)
    }

    /// Takes a code, which is not taken again; refuses it with the effect that hangs on it.
    pub(super) async fn use_factor(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        factor: &Factor,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let held = self.held_factor(transaction, user).await?;
        let Some(secret) = held.secret.filter(|_| held.is_enabled) else {
            return Err(Error::Conflict("the second factor is not enabled").into());
        };
        match factor {
            Factor::Totp(code) => {
                let step = totp::step_of(&secret, code, now.as_second(), held.last_step);
                sqlx::query("update identity.users set totp_step = $2 where id = $1")
                    .bind(user.uuid())
                    .bind(step.ok_or(Error::FactorRefused)?)
                    .execute(transaction)
                    .await?;
            }
            Factor::Recovery(code) => {
                let deleted = sqlx::query(
                    "delete from identity.recovery_codes where user_id = $1 and code_hash = $2",
                )
                .bind(user.uuid())
                .bind(self.recovery_hash(user, code).as_slice())
                .execute(transaction)
                .await?;
                if deleted.rows_affected() == 0 {
                    return Err(Error::FactorRefused.into());
                }
            }
        }
        Ok(())
    }

    async fn held_factor(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
    ) -> Result<Held, Failure> {
        let row: Option<(Option<Vec<u8>>, bool, i64)> = sqlx::query_as(
            "select totp_secret, totp_enable_micros is not null, totp_step from identity.users
             where id = $1 and erase_micros is null for no key update",
        )
        .bind(user.uuid())
        .fetch_optional(transaction)
        .await?;
        let (sealed, is_enabled, last_step) = row.ok_or_else(|| not_found(user))?;
        let secret =
            sealed.map(|sealed| self.open(USER_TOTP, user.as_bytes(), &sealed)).transpose()?;
        Ok(Held { secret, is_enabled, last_step })
    }

    async fn replace_codes(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        codes: &[String],
    ) -> Result<(), Failure> {
        sqlx::query("delete from identity.recovery_codes where user_id = $1")
            .bind(user.uuid())
            .execute(&mut *transaction)
            .await?;
        let hashes = codes.iter().map(|code| self.recovery_hash(user, code).to_vec());
        sqlx::query(
            "insert into identity.recovery_codes (user_id, code_hash) select $1, unnest($2::bytea[])",
        )
        .bind(user.uuid())
        .bind(hashes.collect::<Vec<_>>())
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Keyed: a code has 80 bits, which a fast hash alone would not protect.
    fn recovery_hash(&self, user: UserId, code: &str) -> [u8; 32] {
        let code = recovery::normalized(code);
        self.keyring.hash("recovery-code", &[user.as_bytes().as_slice(), code.as_bytes()].concat())
    }
}
