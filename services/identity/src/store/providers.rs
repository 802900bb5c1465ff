//! Sign-ins that are at a provider, and whom a provider's account signs in.

use auth::KeyDigest;
use jiff::Timestamp;
use proto::events::v1::UserProviderLinked;
use proto::events::v1::user_event::Event;
use rpc::UserId;
use uuid::Uuid;

use super::fields::FLOW_SECRETS;
use super::users::NewUser;
use super::{Failure, Store};
use crate::domain::{Email, Error};

/// A sign-in that is at a provider.
#[derive(Debug)]
pub(crate) struct Flow {
    pub provider: String,
    pub redirect_uri: String,
    /// Encoded by whoever keeps them.
    pub secrets: zeroize::Zeroizing<Vec<u8>>,
}

impl Store {
    /// Keeps a sign-in until its browser comes back.
    pub(crate) async fn begin_flow(
        &self,
        digest: &KeyDigest,
        flow: &Flow,
        expire_time: Timestamp,
    ) -> Result<(), Failure> {
        let row = digest.as_bytes();
        let statement = sqlx::query(
            "insert into identity.provider_flows (digest, provider, redirect_uri, secrets, expire_micros)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(row.as_slice())
        .bind(&flow.provider)
        .bind(&flow.redirect_uri)
        .bind(self.seal(FLOW_SECRETS, row, &flow.secrets)?)
        .bind(expire_time.as_microsecond())
        .execute(self.database.primary());
        self.database.observe("begin_flow", statement).await?;
        Ok(())
    }

    /// Takes a sign-in back, once.
    pub(crate) async fn take_flow(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Flow>, Failure> {
        let statement = sqlx::query_as(
            "delete from identity.provider_flows where digest = $1
             returning provider, redirect_uri, secrets, expire_micros",
        )
        .bind(digest.as_bytes().as_slice())
        .fetch_optional(self.database.primary());
        let row: Option<(String, String, Vec<u8>, i64)> =
            self.database.observe("take_flow", statement).await?;
        let Some((provider, redirect_uri, sealed, expire_micros)) = row else { return Ok(None) };
        if expire_micros <= now.as_microsecond() {
            return Ok(None);
        }
        let secrets = self.open(FLOW_SECRETS, digest.as_bytes(), &sealed)?;
        Ok(Some(Flow { provider, redirect_uri, secrets }))
    }

    /// What a provider's account is found by.
    pub(crate) fn subject_hash(&self, issuer: &str, subject: &str) -> [u8; 32] {
        let length = (issuer.len() as u64).to_be_bytes();
        let value = [&length, issuer.as_bytes(), subject.as_bytes()].concat();
        self.keyring.hash("provider-subject", &value)
    }

    /// Whom a provider's account signs in.
    pub(crate) async fn linked_user(
        &self,
        provider: &str,
        subject_hash: &[u8; 32],
    ) -> Result<Option<UserId>, Failure> {
        let statement = sqlx::query_as(
            "select user_id from identity.provider_links where provider = $1 and subject_hash = $2",
        )
        .bind(provider)
        .bind(subject_hash.as_slice())
        .fetch_optional(self.database.primary());
        let row: Option<(Uuid,)> = self.database.observe("linked_user", statement).await?;
        Ok(row.map(|(user,)| UserId::from(user)))
    }

    /// Makes an account for a provider's; none if the address has one already.
    pub(crate) async fn register_by_provider(
        &self,
        provider: &str,
        subject_hash: &[u8; 32],
        email: &Email,
        display_name: &str,
        now: Timestamp,
    ) -> Result<Option<UserId>, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        let new = NewUser { email, display_name, password: None, provider };
        let user = match self.insert_user(&mut transaction, &new, now).await {
            Err(Failure::Domain(Error::EmailTaken)) => return Ok(None),
            inserted => inserted?,
        };
        self.link(&mut transaction, provider, subject_hash, user, now).await?;
        // The address is proved: what else was asked for under it is not needed.
        sqlx::query("delete from identity.sign_ups where email_hash = $1")
            .bind(self.email_hash(email).as_slice())
            .execute(&mut *transaction)
            .await?;
        self.database.observe("register_by_provider", transaction.commit()).await?;
        self.outbox.committed();
        Ok(Some(user))
    }

    /// Links a provider's account to a user who has proved both.
    pub(super) async fn link(
        &self,
        transaction: &mut sqlx::PgConnection,
        provider: &str,
        subject_hash: &[u8; 32],
        user: UserId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let inserted = sqlx::query(
            "insert into identity.provider_links (provider, subject_hash, user_id, create_micros)
             values ($1, $2, $3, $4) on conflict do nothing",
        )
        .bind(provider)
        .bind(subject_hash.as_slice())
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Conflict("the provider's account is linked to someone").into());
        }
        let event = Event::ProviderLinked(UserProviderLinked { provider: provider.to_owned() });
        self.tell(transaction, user, event, now).await
    }
}
