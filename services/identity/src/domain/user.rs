//! People.

use jiff::Timestamp;
use rpc::UserId;

use super::Email;

/// A person with an account. `Debug` shows none of what is personal.
#[derive(Clone)]
pub(crate) struct User {
    pub id: UserId,
    pub email: Email,
    pub display_name: String,
    /// A PHC string; none: they sign in by a provider alone.
    pub password: Option<String>,
    pub totp_enabled: bool,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// Grows with every change.
    pub version: i64,
}

impl User {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("users/{}", self.id)
    }

    /// Changes with every change.
    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.version)
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}
