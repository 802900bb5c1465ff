//! Partitions by month (UTC), made ahead and dropped by retention, for any table that is partitioned by range of a
//! `timestamptz` or `date`.
//!
//! A partition is named `<table>_yYYYYmMM` and holds its month, first moment included, the next month's excluded.
//! What is named otherwise (a default partition, say) is left alone.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// Months that one call makes, at most.
pub const MONTHS_MAX: i32 = 240;

/// The longest wait for a table's lock: queries on the table queue up behind a waiting one, so it gives up early and
/// the caller tries again at its next turn.
pub const PARTITION_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Identifiers are written into statements, so only plain ones are taken; Postgres cuts names at 63 bytes.
const NAME_BYTES_MAX: usize = 63;
const SUFFIX_BYTES: usize = "_y2026m01".len();

/// Makes the partitions of the months from `from` to `until`, both included, that are not there. Safe to call from many
/// processes at once. Returns how many it made.
///
/// # Errors
/// `table` is not `schema.table` of plain names, more than [`MONTHS_MAX`] months, or the database refuses.
pub async fn ensure_months(
    primary: &PgPool,
    table: &str,
    from: Timestamp,
    until: Timestamp,
) -> anyhow::Result<u32> {
    let name = TableName::parse(table)?;
    let (first, last) = (Month::of(from), Month::of(until));
    let months = first.distance(last) + 1;
    ensure!(months <= MONTHS_MAX, "{months} months of {table} asked for, of {MONTHS_MAX} at most");

    let mut made = 0;
    let mut month = first;
    while month <= last {
        let there = exists(&mut *primary.acquire().await?, &name, month).await?;
        if !there && make(primary, &name, month).await? {
            made += 1;
        }
        month = month.next();
    }
    Ok(made)
}

/// Drops the partitions whose month ended at or before `cutoff`. Returns the dropped tables' names.
///
/// # Errors
/// `table` is not `schema.table` of plain names, or the database refuses (a lock that is not free in time, too).
pub async fn drop_before(
    primary: &PgPool,
    table: &str,
    cutoff: Timestamp,
) -> anyhow::Result<Vec<String>> {
    let name = TableName::parse(table)?;
    let children: Vec<(String,)> = sqlx::query_as(
        "SELECT child.relname::text FROM pg_inherits
         JOIN pg_class child ON child.oid = inhrelid
         JOIN pg_namespace home ON home.oid = child.relnamespace AND home.nspname = $1
         WHERE inhparent = to_regclass($2) ORDER BY 1",
    )
    .bind(name.schema)
    .bind(table)
    .fetch_all(primary)
    .await
    .with_context(|| format!("listing the partitions of {table}"))?;

    let mut dropped = Vec::new();
    for (child,) in children {
        let Some(month) = Month::of_partition(name.table, &child) else { continue };
        if month.next().start()? > cutoff {
            continue;
        }
        let mut transaction = primary.begin().await?;
        limit_lock_wait(&mut transaction).await?;
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {}.{child}", name.schema)))
            .execute(&mut *transaction)
            .await
            .with_context(|| format!("dropping {}.{child}", name.schema))?;
        transaction.commit().await?;
        dropped.push(format!("{}.{child}", name.schema));
    }
    Ok(dropped)
}

/// Asks the catalog's tables: `to_regclass` answers from a cache that another session's commit does not reach in time.
async fn exists(
    connection: &mut PgConnection,
    name: &TableName<'_>,
    month: Month,
) -> anyhow::Result<bool> {
    let (found,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace home ON home.oid = relnamespace
         WHERE nspname = $1 AND relname = $2)",
    )
    .bind(name.schema)
    .bind(month.partition(name.table))
    .fetch_one(connection)
    .await?;
    Ok(found)
}

/// Made beside the table and attached, which blocks neither reads nor writes; `PARTITION OF` would block both.
async fn make(primary: &PgPool, name: &TableName<'_>, month: Month) -> anyhow::Result<bool> {
    let TableName { schema, table } = name;
    let child = month.partition(table);
    let mut transaction = primary.begin().await?;
    limit_lock_wait(&mut transaction).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("partition {schema}.{child}"))
        .execute(&mut *transaction)
        .await?;
    if exists(&mut transaction, name, month).await? {
        return Ok(false);
    }
    let (start, end) = (month.start()?, month.next().start()?);
    let statements = [
        format!(
            "CREATE TABLE {schema}.{child} (LIKE {schema}.{table}
             INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE)"
        ),
        format!(
            "ALTER TABLE {schema}.{table} ATTACH PARTITION {schema}.{child}
             FOR VALUES FROM ('{start}') TO ('{end}')"
        ),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .with_context(|| format!("making the partition {schema}.{child}"))?;
    }
    transaction.commit().await?;
    Ok(true)
}

async fn limit_lock_wait(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(PARTITION_LOCK_TIMEOUT.as_millis().to_string())
        .execute(connection)
        .await
        .map(drop)
}

/// A name that needs no quotes: lower case, digits, underscores, not starting with a digit.
pub(crate) fn is_identifier(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    starts_well && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain)
}

#[derive(Debug)]
struct TableName<'a> {
    schema: &'a str,
    table: &'a str,
}

impl<'a> TableName<'a> {
    fn parse(name: &'a str) -> anyhow::Result<Self> {
        let Some((schema, table)) = name.split_once('.') else {
            bail!("a table is named with its schema, not {name:?}");
        };
        ensure!(is_identifier(schema) && is_identifier(table), "not a plain table name: {name:?}");
        ensure!(
            table.len() + SUFFIX_BYTES <= NAME_BYTES_MAX,
            "too long to be partitioned: {name:?}"
        );
        Ok(Self { schema, table })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month {
    year: i16,
    /// 1 to 12.
    month: i8,
}

impl Month {
    fn of(moment: Timestamp) -> Self {
        let date = moment.to_zoned(TimeZone::UTC).date();
        Self { year: date.year(), month: date.month() }
    }

    fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }

    /// Months from this one to `other`; negative if `other` is earlier.
    fn distance(self, other: Self) -> i32 {
        let months = |m: Self| i32::from(m.year) * 12 + i32::from(m.month);
        months(other) - months(self)
    }

    fn start(self) -> anyhow::Result<Timestamp> {
        let date = Date::new(self.year, self.month, 1).context("a month out of range")?;
        Ok(date.to_zoned(TimeZone::UTC)?.timestamp())
    }

    fn partition(self, table: &str) -> String {
        format!("{table}_y{:04}m{:02}", self.year, self.month)
    }

    fn of_partition(table: &str, partition: &str) -> Option<Self> {
        let (year, month) = partition.strip_prefix(table)?.strip_prefix("_y")?.split_once('m')?;
        let parsed = Self { year: year.parse().ok()?, month: month.parse().ok()? };
        // The round trip refuses signs, missing zeros and months beyond 12.
        let valid = (1..=12).contains(&parsed.month) && parsed.partition(table) == partition;
        valid.then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_found_again_in_its_partitions_name() {
        let month = Month::of("2026-12-31T23:59:59.999Z".parse().unwrap());
        assert_eq!(month.partition("clicks"), "clicks_y2026m12");
        assert_eq!(month.next().partition("clicks"), "clicks_y2027m01");
        assert_eq!(Month::of_partition("clicks", "clicks_y2026m12"), Some(month));
        for other in ["clicks_default", "clicks_y2026m13", "clicks_y2026m1", "links_y2026m12"] {
            assert_eq!(Month::of_partition("clicks", other), None, "{other}");
        }
    }

    #[test]
    fn only_plain_qualified_names_reach_a_statement() {
        assert!(TableName::parse("analytics.rollups").is_ok());
        let long = format!("analytics.{}", "x".repeat(60));
        for name in ["rollups", "a.b.c", "a.\"b\"", "a.b; drop table c", "A.b", "1a.b", &long] {
            assert!(TableName::parse(name).is_err(), "{name}");
        }
    }
}
