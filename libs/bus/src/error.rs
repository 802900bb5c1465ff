//! The errors of a log, named for what the caller can do.

/// Why the log did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The log can't be reached or is not ready; the same call may succeed later.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log will never accept this call as it is.
    #[error("the log refused: {0}")]
    Refused(String),
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) => false,
        }
    }
}

/// Why a reader could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The reader's offset is not in the log: retention took it, or the log lost records. Nothing is skipped in silence.
    #[error("the offset is out of range: the log holds {low} to {high}")]
    OutOfRange {
        /// The oldest offset that can be read.
        low: i64,
        /// The offset that the next record will get.
        high: i64,
    },
    /// The log can't be reached or is not ready; the reader keeps its place and may be asked again.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// What is stored there is damaged; an operator must look.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(why) | Error::Refused(why) => Self::Unavailable(why),
        }
    }
}
