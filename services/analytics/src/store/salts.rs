//! The daily salts: random, made a day ahead, destroyed 48 h after their day began.

use super::Error;
use super::Store;
use crate::domain::salt;

impl Store {
    /// The salts of the days that live, made where they are missing, by day. What is past its life is destroyed first.
    /// Two instances that make the same salt agree on one.
    pub async fn salts(
        &self,
        now_micros: i64,
        fresh: [[u8; 16]; 2],
    ) -> Result<Vec<(i32, [u8; 16])>, Error> {
        self.destroy_salts(now_micros).await?;
        let today = salt::day(now_micros);
        sqlx::query(
            "INSERT INTO analytics.salts (day, key) VALUES ($1, $2), ($1 + 1, $3)
             ON CONFLICT (day) DO NOTHING",
        )
        .bind(today)
        .bind(fresh[0].as_slice())
        .bind(fresh[1].as_slice())
        .execute(self.database.primary())
        .await?;
        let rows: Vec<(i32, Vec<u8>)> = sqlx::query_as(
            "SELECT day, key FROM analytics.salts WHERE day BETWEEN $1 AND $2 ORDER BY day",
        )
        .bind(salt::oldest_day(now_micros))
        .bind(today + 1)
        .fetch_all(self.database.primary())
        .await?;
        let salts = rows.into_iter().filter_map(|(day, key)| Some((day, key.try_into().ok()?)));
        Ok(salts.collect())
    }

    /// Destroys the salts whose 48 h are over. Gives how many.
    pub async fn destroy_salts(&self, now_micros: i64) -> Result<u64, Error> {
        let destroyed = sqlx::query("DELETE FROM analytics.salts WHERE day < $1")
            .bind(salt::oldest_day(now_micros))
            .execute(self.database.primary())
            .await?;
        Ok(destroyed.rows_affected())
    }
}
