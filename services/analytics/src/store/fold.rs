//! One fold is one transaction, and its first statement moves the partition's place under epoch and expected offset: who
//! no longer holds the partition changes nothing.

use sqlx::Postgres;
use sqlx::Transaction;
use uuid::Uuid;

use super::Error;
use super::Store;
use super::partition_number;
use super::quarter;
use super::seconds;
use super::signed;
use super::unsigned;
use crate::domain::counts::Counts;
use crate::domain::ledger::Incarnation;
use crate::domain::letter::Letter;
use crate::domain::rollup::Key;
use crate::domain::rollup::PackedRollup;

/// The right to fold a partition: a fresh random number, written when the partition was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub(crate) Uuid);

/// A record as it was folded, to be found unchanged before folding goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedRecord {
    /// Nothing if its headers were unreadable.
    pub incarnation: Option<Incarnation>,
    /// The number of its first click; 0 if its headers were unreadable.
    pub first: u64,
    /// How many clicks it held; 0 if its headers were unreadable.
    pub count: u64,
    /// When the log took it, microseconds since 1970.
    pub append_micros: i64,
}

/// Where a fold moves the partition to.
#[derive(Clone, Debug)]
pub struct Move {
    /// The partition.
    pub partition: u32,
    /// The right to.
    pub epoch: Epoch,
    /// The next offset before.
    pub expected: i64,
    /// And after; the same if a record is folded in part.
    pub next_offset: i64,
    /// The last record that is folded wholly now; nothing if none became so.
    pub last: Option<FoldedRecord>,
    /// The greatest append time seen.
    pub append_seen_micros: i64,
    /// Clicks found lost.
    pub lost: u64,
    /// The highest number of each incarnation that was folded from.
    pub numbers: Vec<(Incarnation, u64)>,
    /// Incarnations that expired.
    pub forgotten: Vec<Incarnation>,
}

/// A fold under way; dropped, it never was.
#[derive(Debug)]
pub struct Fold {
    transaction: Transaction<'static, Postgres>,
    partition: u32,
}

impl Store {
    /// Begins a fold. Nothing means: the partition is someone else's, or no longer where it was.
    pub async fn begin_fold(&self, step: &Move) -> Result<Option<Fold>, Error> {
        let mut transaction = self.database.primary().begin().await?;
        let partition = partition_number(step.partition);
        let last = step.last.as_ref();
        let moved = sqlx::query(
            "UPDATE analytics.partitions SET next_offset = $4, append_seen = $5,
                 lost_clicks = lost_clicks + $6,
                 last_incarnation = CASE WHEN $7 THEN $8 ELSE last_incarnation END,
                 last_first = CASE WHEN $7 THEN $9 ELSE last_first END,
                 last_count = CASE WHEN $7 THEN $10 ELSE last_count END,
                 last_append = CASE WHEN $7 THEN $11 ELSE last_append END
             WHERE partition = $1 AND epoch = $2 AND next_offset = $3 AND halt_reason IS NULL",
        )
        .bind(partition)
        .bind(step.epoch.0)
        .bind(step.expected)
        .bind(step.next_offset)
        .bind(step.append_seen_micros)
        .bind(signed(step.lost))
        .bind(last.is_some())
        .bind(last.and_then(|last| last.incarnation.map(|bytes| bytes.to_vec())))
        .bind(last.map(|last| signed(last.first)))
        .bind(last.map(|last| signed(last.count)))
        .bind(last.map(|last| last.append_micros))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(None);
        }
        let mut fold = Fold { transaction, partition: step.partition };
        fold.number(step).await?;
        Ok(Some(fold))
    }
}

impl Fold {
    async fn number(&mut self, step: &Move) -> Result<(), Error> {
        let partition = partition_number(step.partition);
        if !step.numbers.is_empty() {
            let incarnations: Vec<&[u8]> =
                step.numbers.iter().map(|(incarnation, _)| incarnation.as_slice()).collect();
            let highest: Vec<i64> =
                step.numbers.iter().map(|(_, number)| signed(*number)).collect();
            sqlx::query(
                "INSERT INTO analytics.numbers (partition, incarnation, highest)
                 SELECT $1, incarnation, highest FROM unnest($2::bytea[], $3::bigint[]) AS new (incarnation, highest)
                 ON CONFLICT (partition, incarnation) DO UPDATE SET highest = excluded.highest",
            )
            .bind(partition)
            .bind(incarnations)
            .bind(highest)
            .execute(&mut *self.transaction)
            .await?;
        }
        if !step.forgotten.is_empty() {
            let forgotten: Vec<&[u8]> =
                step.forgotten.iter().map(|bytes| bytes.as_slice()).collect();
            sqlx::query(
                "DELETE FROM analytics.numbers WHERE partition = $1 AND incarnation = ANY($2)",
            )
            .bind(partition)
            .bind(forgotten)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Reads those rollups of this partition that exist.
    pub async fn read(&mut self, keys: &[Key]) -> Result<Vec<(Key, PackedRollup)>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let columns = KeyColumns::of(keys.iter());
        type Row = (Uuid, Uuid, i64, i64, i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT workspace, link, extract(epoch FROM quarter)::bigint, clicks, bot_clicks, minutes, dimensions, visitors
             FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS wanted (w, l, q)
             JOIN analytics.rollups ON workspace = w AND link = l AND quarter = to_timestamp(q) AND partition = $1
             WHERE quarter BETWEEN to_timestamp($5) AND to_timestamp($6)",
        )
        .bind(partition_number(self.partition))
        .bind(&columns.workspaces)
        .bind(&columns.links)
        .bind(&columns.quarters)
        .bind(columns.quarters.iter().min())
        .bind(columns.quarters.iter().max())
        .fetch_all(&mut *self.transaction)
        .await?;
        let rollups = rows.into_iter().map(|row| {
            let (workspace, link, at, clicks, bot_clicks, minutes, dimensions, visitors) = row;
            let key = Key {
                workspace: workspace.into_bytes(),
                link: link.into_bytes(),
                quarter: quarter(at),
            };
            let counts = Counts { clicks: unsigned(clicks), bot_clicks: unsigned(bot_clicks) };
            (key, PackedRollup { counts, minutes, dimensions, visitors })
        });
        Ok(rollups.collect())
    }

    /// Writes rollups whole, in the order given, which must be that of their keys.
    pub async fn write(&mut self, rollups: &[(Key, PackedRollup)]) -> Result<(), Error> {
        if rollups.is_empty() {
            return Ok(());
        }
        let columns = KeyColumns::of(rollups.iter().map(|(key, _)| key));
        let packed = || rollups.iter().map(|(_, rollup)| rollup);
        let clicks: Vec<i64> = packed().map(|rollup| signed(rollup.counts.clicks)).collect();
        let bots: Vec<i64> = packed().map(|rollup| signed(rollup.counts.bot_clicks)).collect();
        let minutes: Vec<&[u8]> = packed().map(|rollup| rollup.minutes.as_slice()).collect();
        let dimensions: Vec<&[u8]> = packed().map(|rollup| rollup.dimensions.as_slice()).collect();
        let visitors: Vec<Option<&[u8]>> =
            packed().map(|rollup| rollup.visitors.as_deref()).collect();
        sqlx::query(
            "INSERT INTO analytics.rollups
                 (workspace, link, quarter, partition, clicks, bot_clicks, minutes, dimensions, visitors)
             SELECT w, l, to_timestamp(q), $1, c, b, m, d, v
             FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[], $9::bytea[])
                 AS new (w, l, q, c, b, m, d, v)
             ON CONFLICT (workspace, link, quarter, partition) DO UPDATE SET
                 clicks = excluded.clicks, bot_clicks = excluded.bot_clicks, minutes = excluded.minutes,
                 dimensions = excluded.dimensions, visitors = excluded.visitors",
        )
        .bind(partition_number(self.partition))
        .bind(&columns.workspaces)
        .bind(&columns.links)
        .bind(&columns.quarters)
        .bind(clicks)
        .bind(bots)
        .bind(minutes)
        .bind(dimensions)
        .bind(visitors)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Writes dead letters; those that are there already stay as they are. Gives the ones that are new.
    pub async fn write_letters(&mut self, letters: &[Letter]) -> Result<Vec<u64>, Error> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let incarnations: Vec<&[u8]> = letters
            .iter()
            .map(|letter| letter.incarnation.as_ref().map_or(&[][..], |bytes| bytes.as_slice()))
            .collect();
        let numbers: Vec<i64> = letters.iter().map(|letter| signed(letter.number)).collect();
        let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.name()).collect();
        let details: Vec<&str> = letters.iter().map(|letter| letter.detail.as_str()).collect();
        let payloads: Vec<&[u8]> = letters.iter().map(|letter| letter.payload.as_ref()).collect();
        let whole: Vec<bool> = letters.iter().map(|letter| letter.whole_record).collect();
        let appended: Vec<i64> = letters.iter().map(|letter| letter.append_micros).collect();
        let new: Vec<(i64,)> = sqlx::query_as(
            "INSERT INTO analytics.dead_letters
                 (partition, incarnation, number, reason, detail, payload, whole_record, append_time)
             SELECT $1, * FROM unnest($2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::boolean[], $8::bigint[])
             ON CONFLICT (partition, incarnation, number) DO NOTHING
             RETURNING number",
        )
        .bind(partition_number(self.partition))
        .bind(incarnations)
        .bind(numbers)
        .bind(reasons)
        .bind(details)
        .bind(payloads)
        .bind(whole)
        .bind(appended)
        .fetch_all(&mut *self.transaction)
        .await?;
        Ok(new.into_iter().map(|(number,)| unsigned(number)).collect())
    }

    /// Marks letters folded. False: one of them was already, and the fold must be dropped.
    pub async fn mark_redriven(&mut self, ids: &[i64]) -> Result<bool, Error> {
        let marked = sqlx::query(
            "UPDATE analytics.dead_letters SET redrive_time = now(), requested = false
             WHERE id = ANY($1) AND redrive_time IS NULL",
        )
        .bind(ids)
        .execute(&mut *self.transaction)
        .await?;
        Ok(usize::try_from(marked.rows_affected()).is_ok_and(|marked| marked == ids.len()))
    }

    /// Makes it so. After an error it is unknown whether it is so.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit().await?)
    }
}

struct KeyColumns {
    workspaces: Vec<Uuid>,
    links: Vec<Uuid>,
    quarters: Vec<i64>,
}

impl KeyColumns {
    fn of<'a>(keys: impl Iterator<Item = &'a Key> + Clone) -> KeyColumns {
        KeyColumns {
            workspaces: keys.clone().map(|key| Uuid::from_bytes(key.workspace)).collect(),
            links: keys.clone().map(|key| Uuid::from_bytes(key.link)).collect(),
            quarters: keys.map(|key| seconds(key.quarter)).collect(),
        }
    }
}
