//! The join tokens' side of the port: what control remembers of each token it has made. What it says is control's to judge: here it
//! is bytes, which go when the token has run out.

use futures_util::future::BoxFuture;
use std::fmt;
use std::time::Duration;

/// How many tokens there are at most.
pub const JOIN_TOKENS_MAX: usize = 1_000;

/// What is remembered of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenEntry {
    /// The token's id, as the key says it.
    pub id: String,
    /// Changes whenever the value does.
    pub version: i64,
    /// What is remembered.
    pub value: Vec<u8>,
}

/// Where join tokens are remembered. Each operation happens wholly or not at all.
pub trait JoinTokenStore: fmt::Debug + Send + Sync {
    /// All of them, at most [`JOIN_TOKENS_MAX`].
    ///
    /// # Errors
    /// If the registry does not answer; also below.
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<JoinTokenEntry>>>;

    /// One of them; none if it is gone.
    fn get(&self, id: &str) -> BoxFuture<'_, anyhow::Result<Option<JoinTokenEntry>>>;

    /// Remembers a new one for `life`; false if there is one of that id.
    fn create(
        &self,
        id: &str,
        value: Vec<u8>,
        life: Duration,
    ) -> BoxFuture<'_, anyhow::Result<bool>>;

    /// Remembers this instead, for as long as before; false if it has changed since, or is gone.
    fn replace(&self, entry: JoinTokenEntry) -> BoxFuture<'_, anyhow::Result<bool>>;

    /// Forgets one; false if it was gone.
    fn delete(&self, id: &str) -> BoxFuture<'_, anyhow::Result<bool>>;
}
