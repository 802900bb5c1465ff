//! Signing keys: made under a lock, so that of many instances one makes each.

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::fields::SIGNING_KEY;
use super::{Failure, Store, time};
use crate::domain::signing::{self, KeyTimes};

/// A key with its times.
pub(crate) struct StoredKey {
    pub kid: String,
    pub private_key: Zeroizing<Vec<u8>>,
    pub public_key: Vec<u8>,
    pub times: KeyTimes,
}

/// A fresh key.
pub(crate) struct NewKeyPair {
    pub kid: String,
    pub private_key: Zeroizing<Vec<u8>>,
    pub public_key: Vec<u8>,
}

impl Store {
    /// Makes the key that is due, if one is, deletes those that are over, and returns the others.
    pub(crate) async fn maintain_signing_keys(
        &self,
        key_life: SignedDuration,
        now: Timestamp,
        make: impl Fn() -> anyhow::Result<NewKeyPair>,
    ) -> Result<Vec<StoredKey>, Failure> {
        let mut transaction = self.database.primary().begin().await?;
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('identity.signing_keys', 0))")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("delete from identity.signing_keys where drop_micros <= $1")
            .bind(now.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        let times: Vec<(i64, i64, i64)> = sqlx::query_as(
            "select sign_micros, retire_micros, drop_micros from identity.signing_keys",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let times = times.into_iter().map(key_times).collect::<Result<Vec<_>, _>>()?;
        if let Some(due) = signing::key_to_make(&times, now, key_life, self.access_token_life) {
            let new = make().map_err(|error| Failure::Sealed(error.to_string()))?;
            sqlx::query(
                "insert into identity.signing_keys (kid, private_key, public_key, sign_micros,
                     retire_micros, drop_micros)
                 values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&new.kid)
            .bind(self.seal(SIGNING_KEY, new.kid.as_bytes(), &new.private_key)?)
            .bind(&new.public_key)
            .bind(due.sign.as_microsecond())
            .bind(due.retire.as_microsecond())
            .bind(due.drop.as_microsecond())
            .execute(&mut *transaction)
            .await?;
            tracing::info!(kid = new.kid, signs_from = %due.sign, "a signing key was made");
        }
        self.database.observe("maintain_signing_keys", transaction.commit()).await?;
        self.signing_keys(now).await
    }

    /// The keys that are published, the one that signs next last.
    pub(crate) async fn signing_keys(&self, now: Timestamp) -> Result<Vec<StoredKey>, Failure> {
        type Row = (String, Vec<u8>, Vec<u8>, i64, i64, i64);
        let statement = sqlx::query_as(
            "select kid, private_key, public_key, sign_micros, retire_micros, drop_micros
             from identity.signing_keys where drop_micros > $1 order by sign_micros, kid",
        )
        .bind(now.as_microsecond())
        .fetch_all(self.database.primary());
        let rows: Vec<Row> = self.database.observe("signing_keys", statement).await?;
        rows.into_iter()
            .map(|(kid, sealed, public_key, sign, retire, drop)| {
                let private_key = self.open(SIGNING_KEY, kid.as_bytes(), &sealed)?;
                Ok(StoredKey {
                    private_key,
                    public_key,
                    times: key_times((sign, retire, drop))?,
                    kid,
                })
            })
            .collect()
    }
}

fn key_times((sign, retire, drop): (i64, i64, i64)) -> Result<KeyTimes, Failure> {
    Ok(KeyTimes { sign: time(sign)?, retire: time(retire)?, drop: time(drop)? })
}
