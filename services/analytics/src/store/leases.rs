//! Who folds which partition, and where each partition stands.
//!
//! Leases, by the database's clock, only share the work out. Whether a fold counts is decided by the epoch alone, which
//! changes whenever a partition changes hands.

use std::time::Duration;

use uuid::Uuid;

use super::Error;
use super::Store;
use super::fold::Epoch;
use super::fold::FoldedRecord;
use super::partition_number;
use super::unsigned;
use crate::domain::ledger::Incarnation;
use crate::domain::ledger::Ledger;

/// An instance that has not been seen for so long is forgotten.
const FORGOTTEN_AFTER: &str = "1 day";

/// What one beat of an instance's heart found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Partitions that are still held under the epochs named.
    pub held: Vec<u32>,
    /// How many it should hold.
    pub share: usize,
    /// Those of `held` that have dead letters to be folded anew.
    pub requested: Vec<u32>,
}

/// Where a partition stands, for who holds it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The offset that is folded next.
    pub next_offset: i64,
    /// The record before it, as it was folded.
    pub last: Option<FoldedRecord>,
    /// Which clicks were folded.
    pub ledger: Ledger,
    /// Why it is halted.
    pub halt_reason: Option<String>,
}

/// Where a partition stands, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub partition: u32,
    /// Who holds it.
    pub owner: Option<String>,
    /// The offset that is folded next.
    pub next_offset: i64,
    /// Why it is halted.
    pub halt_reason: Option<String>,
    /// Clicks known to be lost.
    pub lost_clicks: u64,
}

impl Store {
    /// Makes rows for partitions 0 to `count` - 1 that have none: they start at offset 0.
    pub async fn know_partitions(&self, count: u32) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO analytics.partitions (partition) SELECT generate_series(0, $1 - 1)
             ON CONFLICT (partition) DO NOTHING",
        )
        .bind(partition_number(count))
        .execute(self.database.primary())
        .await?;
        Ok(())
    }

    /// Says that a session lives, renews its leases, and tells what it holds and should hold.
    ///
    /// Only what is held under `epochs` is renewed: a partition that nobody folds, because the answer to its taking or its
    /// release was lost, must run out.
    pub async fn beat(
        &self,
        instance: &str,
        session: Uuid,
        lease: Duration,
        epochs: &[Epoch],
    ) -> Result<Beat, Error> {
        let epochs: Vec<Uuid> = epochs.iter().map(|epoch| epoch.0).collect();
        let lease = lease.as_secs_f64();
        sqlx::query(
            "INSERT INTO analytics.instances (session, instance, seen) VALUES ($1, $2, now())
             ON CONFLICT (session) DO UPDATE SET seen = now()",
        )
        .bind(session)
        .bind(instance)
        .execute(self.database.primary())
        .await?;
        let held: Vec<(i32,)> = sqlx::query_as(
            "UPDATE analytics.partitions SET lease_until = now() + $2 * interval '1 second'
             WHERE owner_session = $1 AND epoch = ANY($3) RETURNING partition",
        )
        .bind(session)
        .bind(lease)
        .bind(epochs)
        .fetch_all(self.database.primary())
        .await?;
        let held: Vec<i32> = held.into_iter().map(|(partition,)| partition).collect();
        let (partitions, sessions, before): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM analytics.partitions), count(*),
                    count(*) FILTER (WHERE (instance, session) < ($2, $1))
             FROM analytics.instances WHERE seen > now() - $3 * interval '1 second'",
        )
        .bind(session)
        .bind(instance)
        .bind(lease)
        .fetch_one(self.database.primary())
        .await?;
        let requested: Vec<(i32,)> = sqlx::query_as(
            "SELECT DISTINCT partition FROM analytics.dead_letters WHERE requested AND partition = ANY($1)",
        )
        .bind(&held)
        .fetch_all(self.database.primary())
        .await?;
        // The division's remainder goes to the first sessions, so that all shares together are all partitions.
        let share = partitions / sessions.max(1) + i64::from(before < partitions % sessions.max(1));
        Ok(Beat {
            held: held.into_iter().map(number).collect(),
            share: usize::try_from(share).unwrap_or(0),
            requested: requested.into_iter().map(|(partition,)| number(partition)).collect(),
        })
    }

    /// Takes up to `count` partitions that nobody holds, each under a fresh epoch.
    pub async fn take(
        &self,
        instance: &str,
        session: Uuid,
        lease: Duration,
        count: usize,
    ) -> Result<Vec<(u32, Epoch)>, Error> {
        let taken: Vec<(i32, Uuid)> = sqlx::query_as(
            "UPDATE analytics.partitions
             SET owner = $1, owner_session = $2, epoch = gen_random_uuid(),
                 lease_until = now() + $3 * interval '1 second'
             WHERE partition IN (
                 SELECT partition FROM analytics.partitions
                 WHERE owner_session IS NULL OR lease_until < now()
                 ORDER BY partition LIMIT $4 FOR UPDATE SKIP LOCKED)
             RETURNING partition, epoch",
        )
        .bind(instance)
        .bind(session)
        .bind(lease.as_secs_f64())
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(self.database.primary())
        .await?;
        Ok(taken.into_iter().map(|(partition, epoch)| (number(partition), Epoch(epoch))).collect())
    }

    /// Gives a partition up, if it is still held under this epoch.
    pub async fn release(&self, partition: u32, epoch: Epoch) -> Result<(), Error> {
        sqlx::query(
            "UPDATE analytics.partitions SET owner = NULL, owner_session = NULL, epoch = NULL, lease_until = NULL
             WHERE partition = $1 AND epoch = $2",
        )
        .bind(partition_number(partition))
        .bind(epoch.0)
        .execute(self.database.primary())
        .await?;
        Ok(())
    }

    /// Frees what an earlier session of the same instance held, which is gone now that this one starts.
    pub async fn release_predecessor(&self, instance: &str, session: Uuid) -> Result<(), Error> {
        sqlx::query(
            "UPDATE analytics.partitions SET owner = NULL, owner_session = NULL, epoch = NULL, lease_until = NULL
             WHERE owner = $1 AND owner_session <> $2",
        )
        .bind(instance)
        .bind(session)
        .execute(self.database.primary())
        .await?;
        sqlx::query(
            "DELETE FROM analytics.instances
             WHERE (instance = $1 AND session <> $2) OR seen < now() - $3::interval",
        )
        .bind(instance)
        .bind(session)
        .bind(FORGOTTEN_AFTER)
        .execute(self.database.primary())
        .await?;
        Ok(())
    }

    /// A session leaves: the others take its share at once.
    pub async fn leave(&self, session: Uuid) -> Result<(), Error> {
        sqlx::query(
            "UPDATE analytics.partitions SET owner = NULL, owner_session = NULL, epoch = NULL, lease_until = NULL
             WHERE owner_session = $1",
        )
        .bind(session)
        .execute(self.database.primary())
        .await?;
        sqlx::query("DELETE FROM analytics.instances WHERE session = $1")
            .bind(session)
            .execute(self.database.primary())
            .await?;
        Ok(())
    }

    /// Where a partition stands. Nothing: it is no longer held under this epoch.
    pub async fn place(&self, partition: u32, epoch: Epoch) -> Result<Option<Place>, Error> {
        type Row =
            (i64, Option<Vec<u8>>, Option<i64>, Option<i64>, Option<i64>, i64, Option<String>);
        let row: Option<Row> = sqlx::query_as(
            "SELECT next_offset, last_incarnation, last_first, last_count, last_append, append_seen, halt_reason
             FROM analytics.partitions WHERE partition = $1 AND epoch = $2",
        )
        .bind(partition_number(partition))
        .bind(epoch.0)
        .fetch_optional(self.database.primary())
        .await?;
        let Some((next_offset, incarnation, first, count, append, append_seen, halt_reason)) = row
        else {
            return Ok(None);
        };
        let last = append.map(|append_micros| FoldedRecord {
            incarnation: incarnation.and_then(|bytes| Incarnation::try_from(bytes.as_slice()).ok()),
            first: unsigned(first.unwrap_or(0)),
            count: unsigned(count.unwrap_or(0)),
            append_micros,
        });
        let numbers: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT incarnation, highest FROM analytics.numbers WHERE partition = $1",
        )
        .bind(partition_number(partition))
        .fetch_all(self.database.primary())
        .await?;
        let numbers = numbers.into_iter().filter_map(|(incarnation, highest)| {
            // The table's check keeps them at 16 bytes.
            Some((Incarnation::try_from(incarnation.as_slice()).ok()?, unsigned(highest)))
        });
        let ledger = Ledger::stored(numbers, append_seen);
        Ok(Some(Place { next_offset, last, ledger, halt_reason }))
    }

    /// Halts a partition until an operator resumes it. False: it is no longer held under this epoch.
    pub async fn halt(&self, partition: u32, epoch: Epoch, reason: &str) -> Result<bool, Error> {
        let halted = sqlx::query(
            "UPDATE analytics.partitions SET halt_reason = $3 WHERE partition = $1 AND epoch = $2",
        )
        .bind(partition_number(partition))
        .bind(epoch.0)
        .bind(reason)
        .execute(self.database.primary())
        .await?;
        Ok(halted.rows_affected() == 1)
    }

    /// Lets a halted partition go on from an offset, under nobody's epoch. False: it was not halted, and this same call
    /// was not the last to resume it.
    pub async fn resume(&self, partition: u32, next_offset: i64) -> Result<bool, Error> {
        let resumed = sqlx::query(
            "UPDATE analytics.partitions
             SET halt_reason = NULL, next_offset = $2, resumed_offset = $2, epoch = NULL,
                 owner = NULL, owner_session = NULL, lease_until = NULL,
                 last_incarnation = NULL, last_first = NULL, last_count = NULL, last_append = NULL
             WHERE partition = $1 AND halt_reason IS NOT NULL",
        )
        .bind(partition_number(partition))
        .bind(next_offset)
        .execute(self.database.primary())
        .await?;
        if resumed.rows_affected() == 1 {
            return Ok(true);
        }
        let (repeated,): (bool,) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM analytics.partitions WHERE partition = $1 AND resumed_offset = $2)",
        )
        .bind(partition_number(partition))
        .bind(next_offset)
        .fetch_one(self.database.primary())
        .await?;
        Ok(repeated)
    }

    /// Every partition, by number.
    pub async fn partitions(&self) -> Result<Vec<PartitionView>, Error> {
        type Row = (i32, Option<String>, i64, Option<String>, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT partition, CASE WHEN lease_until > now() THEN owner END, next_offset, halt_reason, lost_clicks
             FROM analytics.partitions ORDER BY partition",
        )
        .fetch_all(self.database.primary())
        .await?;
        let views = rows.into_iter().map(|(partition, owner, next_offset, halt_reason, lost)| {
            let lost_clicks = unsigned(lost);
            PartitionView {
                partition: number(partition),
                owner,
                next_offset,
                halt_reason,
                lost_clicks,
            }
        });
        Ok(views.collect())
    }
}

fn number(partition: i32) -> u32 {
    u32::try_from(partition).unwrap_or(0)
}
