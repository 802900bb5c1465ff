//! Reads of what was counted. Totals touch plain columns only; packed ones are read where they are needed.

use futures_util::TryStreamExt as _;
use std::ops::Range;
use uuid::Uuid;

use super::Error;
use super::Store;
use super::quarter;
use super::seconds;
use super::unsigned;
use crate::domain::counts::Counts;
use crate::domain::quarter::Quarter;

/// Which rollups are asked for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The caller's workspace.
    pub workspace: Uuid,
    /// Links, or only the nil UUID for the whole workspace.
    pub links: Vec<Uuid>,
    /// Quarter hours since 1970.
    pub quarters: Range<i64>,
}

impl Store {
    /// The clicks of each quarter hour that has any, in order.
    pub async fn quarter_counts(&self, scope: &Scope) -> Result<Vec<(Quarter, Counts)>, Error> {
        let query = sqlx::query_as(
            "SELECT extract(epoch FROM quarter)::bigint, sum(clicks)::bigint, sum(bot_clicks)::bigint
             FROM analytics.rollups
             WHERE workspace = $1 AND link = ANY($2) AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)
             GROUP BY quarter ORDER BY quarter",
        )
        .bind(scope.workspace)
        .bind(&scope.links)
        .bind(seconds(Quarter(scope.quarters.start)))
        .bind(seconds(Quarter(scope.quarters.end)));
        let rows: Vec<(i64, i64, i64)> = self
            .database
            .observe("quarter_counts", query.fetch_all(self.database.primary()))
            .await?;
        let counts = rows.into_iter().map(|(at, clicks, bot_clicks)| {
            (quarter(at), Counts { clicks: unsigned(clicks), bot_clicks: unsigned(bot_clicks) })
        });
        Ok(counts.collect())
    }

    /// Gives `each` the packed minutes of every rollup.
    pub async fn each_minutes(
        &self,
        scope: &Scope,
        each: impl FnMut(Quarter, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = self.each_packed(
            "SELECT extract(epoch FROM quarter)::bigint, minutes FROM analytics.rollups
             WHERE workspace = $1 AND link = ANY($2) AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)",
            scope,
            each,
        );
        self.database.observe("minutes", read).await
    }

    /// Gives `each` the packed dimensions of every rollup.
    pub async fn each_dimensions(
        &self,
        scope: &Scope,
        each: impl FnMut(Quarter, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = self.each_packed(
            "SELECT extract(epoch FROM quarter)::bigint, dimensions FROM analytics.rollups
             WHERE workspace = $1 AND link = ANY($2) AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)",
            scope,
            each,
        );
        self.database.observe("dimensions", read).await
    }

    /// Gives `each` the visitors' sketch of every rollup that has one, by quarter hour.
    pub async fn each_visitors(
        &self,
        scope: &Scope,
        each: impl FnMut(Quarter, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = self.each_packed(
            "SELECT extract(epoch FROM quarter)::bigint, visitors FROM analytics.rollups
             WHERE workspace = $1 AND link = ANY($2) AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)
               AND visitors IS NOT NULL
             ORDER BY quarter",
            scope,
            each,
        );
        self.database.observe("visitors", read).await
    }

    async fn each_packed(
        &self,
        statement: &'static str,
        scope: &Scope,
        mut each: impl FnMut(Quarter, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rows = sqlx::query_as::<_, (i64, Vec<u8>)>(statement)
            .bind(scope.workspace)
            .bind(&scope.links)
            .bind(seconds(Quarter(scope.quarters.start)))
            .bind(seconds(Quarter(scope.quarters.end)))
            .fetch(self.database.primary());
        // Row by row: a long range may hold more than memory does.
        while let Some((at, packed)) = rows.try_next().await? {
            each(quarter(at), &packed)?;
        }
        Ok(())
    }

    /// Links with clicks, most clicks first, then by id; from the one after `after` (its weight and id) on. No links in
    /// the scope means every one of the workspace.
    pub async fn links_by_clicks(
        &self,
        scope: &Scope,
        after: Option<(u64, Uuid)>,
        count: usize,
    ) -> Result<Vec<(Uuid, Counts)>, Error> {
        let query = sqlx::query_as(
            "SELECT link, sum(clicks)::bigint, sum(bot_clicks)::bigint FROM analytics.rollups
             WHERE workspace = $1 AND (link = ANY($2) OR cardinality($2) = 0)
               AND link <> '00000000-0000-0000-0000-000000000000'
               AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)
             GROUP BY link
             HAVING $5::bigint IS NULL OR sum(clicks + bot_clicks) < $5 OR (sum(clicks + bot_clicks) = $5 AND link > $6)
             ORDER BY sum(clicks + bot_clicks) DESC, link LIMIT $7",
        )
        .bind(scope.workspace)
        .bind(&scope.links)
        .bind(seconds(Quarter(scope.quarters.start)))
        .bind(seconds(Quarter(scope.quarters.end)))
        .bind(after.map(|(weight, _)| super::signed(weight)))
        .bind(after.map(|(_, link)| link))
        .bind(i64::try_from(count).unwrap_or(i64::MAX));
        let rows: Vec<(Uuid, i64, i64)> = self
            .database
            .observe("links_by_clicks", query.fetch_all(self.database.primary()))
            .await?;
        let counts = rows.into_iter().map(|(link, clicks, bot_clicks)| {
            (link, Counts { clicks: unsigned(clicks), bot_clicks: unsigned(bot_clicks) })
        });
        Ok(counts.collect())
    }

    /// Gives `each` the sketches of links, day by day and link by link within it.
    pub async fn each_link_visitors(
        &self,
        scope: &Scope,
        mut each: impl FnMut(Uuid, Quarter, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rows = sqlx::query_as::<_, (Uuid, i64, Vec<u8>)>(
            "SELECT link, extract(epoch FROM quarter)::bigint, visitors FROM analytics.rollups
             WHERE workspace = $1 AND link = ANY($2) AND quarter >= to_timestamp($3) AND quarter < to_timestamp($4)
               AND visitors IS NOT NULL
             ORDER BY link, quarter",
        )
        .bind(scope.workspace)
        .bind(&scope.links)
        .bind(seconds(Quarter(scope.quarters.start)))
        .bind(seconds(Quarter(scope.quarters.end)))
        .fetch(self.database.primary());
        while let Some((link, at, packed)) = rows.try_next().await? {
            each(link, quarter(at), &packed)?;
        }
        Ok(())
    }
}
