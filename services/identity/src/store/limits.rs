//! How often something was tried: GCRA, one statement for each decision, the same for all instances.

use std::time::Duration;

use jiff::Timestamp;

use super::{Failure, Store};
use crate::domain::limit::Limit;

impl Store {
    /// Counts an attempt under a limit.
    ///
    /// # Errors
    /// `RateLimited`, with the wait; such an attempt is not counted.
    pub(crate) async fn attempt(
        &self,
        limit: Limit,
        of: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let subject = self.keyring.hash(limit.name, of);
        let now_micros = now.as_microsecond();
        let statement = sqlx::query_as(
            "insert into identity.attempts as a (subject, due_micros) values ($1, $2::bigint + $3)
             on conflict (subject) do update set due_micros = greatest(a.due_micros, $2) + $3
             where greatest(a.due_micros, $2) + $3 <= $2 + $3 * $4
             returning due_micros",
        )
        .bind(subject.as_slice())
        .bind(now_micros)
        .bind(limit.every_micros())
        .bind(limit.burst)
        .fetch_optional(self.database.primary());
        let taken: Option<(i64,)> = self.database.observe("attempt", statement).await?;
        if taken.is_some() {
            return Ok(());
        }
        let statement =
            sqlx::query_as("select due_micros from identity.attempts where subject = $1")
                .bind(subject.as_slice())
                .fetch_optional(self.database.primary());
        let due: Option<(i64,)> = self.database.observe("attempt_wait", statement).await?;
        let wait = due.map_or(Duration::from_secs(1), |(due,)| limit.wait(due, now_micros));
        Err(crate::domain::Error::RateLimited(wait).into())
    }

    /// Forgets the attempts under a limit: whoever has proved who they are begins anew.
    pub(crate) async fn forgive(&self, limit: Limit, of: &[u8]) -> Result<(), Failure> {
        let subject = self.keyring.hash(limit.name, of);
        let statement = sqlx::query("delete from identity.attempts where subject = $1")
            .bind(subject.as_slice())
            .execute(self.database.primary());
        self.database.observe("forgive", statement).await?;
        Ok(())
    }
}
