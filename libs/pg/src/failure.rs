//! What a database error means for the caller: wait and retry, blame the data, or report a bug.

use sqlx::error::ErrorKind;

/// The meaning of an error, by who is at fault and whether a retry helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server can't be reached, is overloaded, stopping, or gave up a lock or a conflicting transaction.
    /// The same statement may succeed later.
    Unavailable,
    /// A row with the same key exists. `constraint` is the index's name, empty if the server named none.
    UniqueViolation {
        /// Name of the violated unique index.
        constraint: String,
    },
    /// The server refuses these values whatever happens (SQLSTATE class 22, 23 or 54). No retry helps.
    BadData {
        /// The five-character SQLSTATE.
        sqlstate: String,
    },
    /// Anything else: wrong SQL, missing rights, a result that does not decode. A bug or a deployment in disorder.
    Other,
}

impl Failure {
    /// Classifies an error of sqlx.
    pub fn of(error: &sqlx::Error) -> Self {
        if let sqlx::Error::Database(error) = error {
            if error.kind() == ErrorKind::UniqueViolation {
                let constraint = error.constraint().unwrap_or_default().to_owned();
                return Self::UniqueViolation { constraint };
            }
            return Self::of_sqlstate(&error.code().unwrap_or_default());
        }
        let may_heal = matches!(
            error,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            // A connection cut in the middle of a message shows as a protocol error.
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
        );
        // The rest is about our own code or set-up.
        if may_heal { Self::Unavailable } else { Self::Other }
    }

    /// True if the data are to blame, so that a batch should be halved until the culprit is found.
    pub fn blames_data(&self) -> bool {
        matches!(self, Self::UniqueViolation { .. } | Self::BadData { .. })
    }

    fn of_sqlstate(sqlstate: &str) -> Self {
        match sqlstate.get(..2).unwrap_or_default() {
            "22" | "23" | "54" => Self::BadData { sqlstate: sqlstate.to_owned() },
            // Connection, transaction conflict, resources, operator intervention (and statement timeout), I/O.
            "08" | "40" | "53" | "57" | "58" => Self::Unavailable,
            _ => match sqlstate {
                // Lock timeout; a server that became a replica; an idle transaction that was cut off.
                "55P03" | "25006" | "25P03" => Self::Unavailable,
                _ => Self::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_data_classes_blame_the_data() {
        for (sqlstate, bad) in
            [("22001", true), ("23514", true), ("54000", true), ("42P01", false), ("57014", false)]
        {
            assert_eq!(Failure::of_sqlstate(sqlstate).blames_data(), bad, "{sqlstate}");
        }
    }

    #[test]
    fn what_time_may_heal_is_unavailable() {
        for sqlstate in ["08006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "25006"] {
            assert_eq!(Failure::of_sqlstate(sqlstate), Failure::Unavailable, "{sqlstate}");
        }
        assert_eq!(Failure::of(&sqlx::Error::PoolTimedOut), Failure::Unavailable);
        assert_eq!(Failure::of(&sqlx::Error::RowNotFound), Failure::Other);
    }
}
