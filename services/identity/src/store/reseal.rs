//! Rewrites what older keys have sealed, so that they can leave the keyring.
//!
//! What is left to do is what does not begin with the active key's head, so nothing is kept of how far a run has come: it may
//! be stopped at any moment, begun again, and run more than once at a time.

use sqlx::AssertSqlSafe;

use super::fields::{
    FLOW_SECRETS, Field, INVITATION_EMAIL, MAIL_EMAIL, REQUEST_ANSWER, SESSION_ANSWER,
    SESSION_LABEL, SIGN_UP_EMAIL, SIGN_UP_NAME, SIGNING_KEY, TOKEN_PAYLOAD, USER_EMAIL, USER_NAME,
    USER_TOTP,
};
use super::{Failure, Store};

/// Every sealed column, with its row's key and what that is bound as.
const COLUMNS: [(Field, &str, RowKey); 13] = [
    (USER_EMAIL, "id", RowKey::Uuid),
    (USER_NAME, "id", RowKey::Uuid),
    (USER_TOTP, "id", RowKey::Uuid),
    (SIGN_UP_EMAIL, "id", RowKey::Uuid),
    (SIGN_UP_NAME, "id", RowKey::Uuid),
    (TOKEN_PAYLOAD, "digest", RowKey::Bytes),
    (SESSION_LABEL, "id", RowKey::Uuid),
    (SESSION_ANSWER, "id", RowKey::Uuid),
    (SIGNING_KEY, "kid", RowKey::Text),
    (MAIL_EMAIL, "id", RowKey::Uuid),
    (INVITATION_EMAIL, "id", RowKey::Uuid),
    (REQUEST_ANSWER, "id", RowKey::Uuid),
    (FLOW_SECRETS, "digest", RowKey::Bytes),
];

#[derive(Clone, Copy, Debug)]
enum RowKey {
    Uuid,
    Bytes,
    Text,
}

impl RowKey {
    /// The key as the bytes that a value is bound to.
    fn as_bytes(self, column: &str) -> String {
        match self {
            RowKey::Uuid => format!("uuid_send({column})"),
            RowKey::Bytes => column.to_owned(),
            RowKey::Text => format!("convert_to({column}, 'UTF8')"),
        }
    }

    /// And back.
    fn of_bytes(self, expression: &str) -> String {
        match self {
            RowKey::Uuid => format!("encode({expression}, 'hex')::uuid"),
            RowKey::Bytes => expression.to_owned(),
            RowKey::Text => format!("convert_from({expression}, 'UTF8')"),
        }
    }
}

/// How far a run has come.
#[derive(Debug, Default)]
pub(crate) struct ResealPlace {
    column: usize,
    behind: Option<Vec<u8>>,
}

impl Store {
    /// How many values other keys than the active one have sealed.
    pub(crate) async fn values_to_reseal(&self) -> Result<i64, Failure> {
        let mut sum = 0;
        for (Field { table, column }, ..) in COLUMNS {
            let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(format!(
                "select count(*) from {table}
                 where {column} is not null and substring({column} from 1 for 5) <> $1"
            )))
            .bind(self.keyring.current_head().as_slice())
            .fetch_one(self.database.primary())
            .await?;
            sum += count;
        }
        Ok(sum)
    }

    /// Reseals up to `batch` values behind `place`, which moves on; returns how many it did, none when all is done.
    ///
    /// The place only spares the scan of what was done before: whatever it is, nothing is missed for good.
    pub(crate) async fn reseal_batch(
        &self,
        place: &mut ResealPlace,
        batch: i64,
    ) -> Result<Option<usize>, Failure> {
        let Some((field, key, row_key)) = COLUMNS.get(place.column).copied() else {
            return Ok(None);
        };
        let Field { table, column } = field;
        let (as_bytes, of_bytes) = (row_key.as_bytes(key), row_key.of_bytes("$3"));
        let mut transaction = self.database.primary().begin().await?;
        let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(format!(
            "select {as_bytes}, {column} from {table}
             where {column} is not null and substring({column} from 1 for 5) <> $1
                 and ($3::bytea is null or {key} > {of_bytes})
             order by {key} limit $2 for no key update"
        )))
        .bind(self.keyring.current_head().as_slice())
        .bind(batch)
        .bind(place.behind.as_deref())
        .fetch_all(&mut *transaction)
        .await?;
        let count = rows.len();
        let (mut keys, mut sealed) = (Vec::new(), Vec::new());
        for (row, old) in rows {
            let value = self.open(field, &row, &old)?;
            sealed.push(self.seal(field, &row, &value)?);
            keys.push(row);
        }
        *place = match keys.last() {
            Some(last) => ResealPlace { column: place.column, behind: Some(last.clone()) },
            None => ResealPlace { column: place.column + 1, behind: None },
        };
        let of_bytes = row_key.of_bytes("n.row_key");
        sqlx::query(AssertSqlSafe(format!(
            "update {table} t set {column} = n.sealed
             from unnest($1::bytea[], $2::bytea[]) as n (row_key, sealed) where t.{key} = {of_bytes}"
        )))
        .bind(keys)
        .bind(sealed)
        .execute(&mut *transaction)
        .await?;
        self.database.observe("reseal", transaction.commit()).await?;
        Ok(Some(count))
    }
}
