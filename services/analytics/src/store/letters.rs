//! Dead letters, read and asked for anew. They are written by folds ([`super::fold`]).

use super::Error;
use super::Store;
use super::partition_number;
use super::unsigned;
use crate::domain::ledger::Incarnation;
use crate::domain::letter::Letter;
use crate::domain::letter::Reason;

/// A stored dead letter.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Its place in the order of writing.
    pub id: i64,
    /// The partition that its clicks came in.
    pub partition: u32,
    /// What was written.
    pub letter: Letter,
    /// An operator wants it folded in spite of its window.
    pub ignore_window: bool,
    /// When it was written, microseconds since 1970.
    pub create_micros: i64,
    /// When it was folded after all.
    pub redrive_micros: Option<i64>,
}

type Row = (i64, i32, Vec<u8>, i64, String, String, Vec<u8>, bool, i64, bool, i64, Option<i64>);

impl Store {
    /// The letters after `after`, oldest first.
    pub async fn letters(&self, after: i64, count: usize) -> Result<Vec<StoredLetter>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, partition, incarnation, number, reason, detail, payload, whole_record, append_time, ignore_window,
                    (extract(epoch FROM create_time) * 1000000)::bigint,
                    (extract(epoch FROM redrive_time) * 1000000)::bigint
             FROM analytics.dead_letters WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(self.database.primary())
        .await?;
        rows.into_iter().map(stored).collect()
    }

    /// Asks for letters to be folded anew: all that were not, of one reason or of every one. `ignore_window` also asks
    /// for those out of their window or expired, which are otherwise left alone. Gives how many.
    pub async fn request_redrive(
        &self,
        reason: Option<Reason>,
        ignore_window: bool,
    ) -> Result<u64, Error> {
        let requested = sqlx::query(
            "UPDATE analytics.dead_letters SET requested = true, ignore_window = $2
             WHERE redrive_time IS NULL AND ($1::text IS NULL OR reason = $1)
               AND ($2 OR reason NOT IN ('out_of_window', 'expired'))",
        )
        .bind(reason.map(Reason::name))
        .bind(ignore_window)
        .execute(self.database.primary())
        .await?;
        Ok(requested.rows_affected())
    }

    /// The letters of a partition that were asked for, oldest first.
    pub async fn requested(
        &self,
        partition: u32,
        count: usize,
    ) -> Result<Vec<StoredLetter>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, partition, incarnation, number, reason, detail, payload, whole_record, append_time, ignore_window,
                    (extract(epoch FROM create_time) * 1000000)::bigint,
                    (extract(epoch FROM redrive_time) * 1000000)::bigint
             FROM analytics.dead_letters WHERE requested AND partition = $1 ORDER BY id LIMIT $2",
        )
        .bind(partition_number(partition))
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(self.database.primary())
        .await?;
        rows.into_iter().map(stored).collect()
    }

    /// A letter was refused again: it stays, with what is wrong with it now.
    pub async fn refuse_redrive(&self, id: i64, detail: &str) -> Result<(), Error> {
        sqlx::query(
            "UPDATE analytics.dead_letters SET requested = false, detail = $2
             WHERE id = $1 AND redrive_time IS NULL",
        )
        .bind(id)
        .bind(detail)
        .execute(self.database.primary())
        .await?;
        Ok(())
    }
}

fn stored(row: Row) -> Result<StoredLetter, Error> {
    let (
        id,
        partition,
        incarnation,
        number,
        reason,
        detail,
        payload,
        whole_record,
        append,
        ignore_window,
        created,
        redriven,
    ) = row;
    let reason = Reason::named(&reason)
        .ok_or_else(|| Error::Broken(format!("dead letter {id} has an unknown reason")))?;
    let letter = Letter {
        incarnation: Incarnation::try_from(incarnation.as_slice()).ok(),
        number: unsigned(number),
        reason,
        detail,
        payload: payload.into(),
        whole_record,
        append_micros: append,
    };
    Ok(StoredLetter {
        id,
        partition: u32::try_from(partition).unwrap_or(0),
        letter,
        ignore_window,
        create_micros: created,
        redrive_micros: redriven,
    })
}
