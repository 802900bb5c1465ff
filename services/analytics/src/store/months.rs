//! The months of the rollups' table: made ahead, dropped when retention is over.

use std::time::Duration;

use jiff::Timestamp;

use super::Store;

const TABLE: &str = "analytics.rollups";
/// Months are made this far ahead, so that a maintenance that fails for weeks harms nobody.
const AHEAD: Duration = Duration::from_secs(62 * 24 * 3600);
/// And this far back, for clicks that waited in a spool or a dead letter.
const BACK_MAX: Duration = Duration::from_secs(62 * 24 * 3600);

impl Store {
    /// Makes the months that clicks may fall into from now on, and drops those that are older than `retention`.
    ///
    /// # Errors
    /// The store can't be reached or refuses.
    pub async fn keep_months(&self, now: Timestamp, retention: Duration) -> anyhow::Result<()> {
        let primary = self.database.primary();
        let from = now.checked_sub(retention.min(BACK_MAX))?;
        pg::partitions::ensure_months(primary, TABLE, from, now.checked_add(AHEAD)?).await?;
        self.leave_room(primary).await?;
        let dropped =
            pg::partitions::drop_before(primary, TABLE, now.checked_sub(retention)?).await?;
        for month in dropped {
            tracing::info!(month, "dropped a month of rollups, its retention is over");
        }
        Ok(())
    }

    /// Rollups are rewritten again and again while their quarter hour lasts: with room on their page, no index changes.
    async fn leave_room(&self, primary: &sqlx::PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(
            "DO $$ DECLARE month regclass; BEGIN
                 FOR month IN SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                     WHERE inhparent = 'analytics.rollups'::regclass AND reloptions IS NULL
                 LOOP
                     EXECUTE format('ALTER TABLE %s SET (fillfactor = 60)', month);
                 END LOOP;
             END $$",
        )
        .execute(primary)
        .await
        .map(drop)
    }

    /// Makes the months of a range: for a redrive of old clicks, and for tests.
    ///
    /// # Errors
    /// The store can't be reached or refuses.
    pub async fn make_months(&self, from: Timestamp, until: Timestamp) -> anyhow::Result<u32> {
        pg::partitions::ensure_months(self.database.primary(), TABLE, from, until).await
    }
}
