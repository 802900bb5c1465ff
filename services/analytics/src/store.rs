//! Every statement that analytics sends to Postgres, schema `analytics`.
//!
//! Only the holder of a partition's epoch writes that partition's rollups, numbers and place ([`fold`]); who holds it is
//! decided in [`leases`]; reads add up what all partitions wrote ([`queries`]).

pub mod fold;
pub mod leases;
pub mod letters;
pub mod months;
pub mod queries;
pub mod salts;

use pg::Failure;

use crate::domain::packed::Damaged;

/// The migrations of the schema `analytics`.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/analytics");

/// The statements of analytics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: pg::Database,
}

impl Store {
    /// Over an open database that was migrated.
    pub fn new(database: pg::Database) -> Store {
        Store { database }
    }

    /// Whether Postgres answers.
    pub async fn is_reachable(&self) -> bool {
        self.database.is_reachable().await
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be reached or is busy; the same call may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It will never take these values.
    #[error("the store refuses the values: SQLSTATE {sqlstate}: {detail}")]
    Refused {
        /// Five characters of class 22, 23 or 54.
        sqlstate: String,
        /// What the store says.
        detail: String,
    },
    /// What it holds was not written by this program.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// Our own mistake, or a deployment in disorder.
    #[error("the store failed: {0}")]
    Broken(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let detail = error.to_string();
        match Failure::of(&error) {
            Failure::Unavailable => Error::Unavailable(detail),
            Failure::BadData { sqlstate } => Error::Refused { sqlstate, detail },
            Failure::UniqueViolation { .. } => {
                Error::Refused { sqlstate: "23505".to_owned(), detail }
            }
            Failure::Other => Error::Broken(detail),
        }
    }
}

/// What is unsigned in the domain and signed in the store. The store's checks refuse what does not fit.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

/// And back: stored counts are never negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The seconds of a quarter hour's start, as statements take it.
pub(crate) fn seconds(quarter: crate::domain::quarter::Quarter) -> i64 {
    quarter.start_micros() / 1_000_000
}

/// And back.
pub(crate) fn quarter(seconds: i64) -> crate::domain::quarter::Quarter {
    crate::domain::quarter::Quarter::of(seconds.saturating_mul(1_000_000))
}

pub(crate) fn partition_number(partition: u32) -> i32 {
    i32::try_from(partition).expect("a topic has at most 4,096 partitions")
}
