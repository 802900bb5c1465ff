//! Ids: a UUIDv7 inside, prefixed text outside (`lnk_0192…`, 32 hexadecimal digits).
//!
//! The kind is part of the type, so that a link's id can't be handed over as a workspace's.

use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::marker::PhantomData;
use std::str::FromStr;
use uuid::Uuid;

/// What an id is the id of.
pub trait Kind {
    /// How its text begins, the underscore included.
    const PREFIX: &'static str;
}

/// The kinds of id.
pub mod kind {
    /// A workspace, `wsp_…`.
    #[derive(Debug)]
    pub enum Workspace {}
    /// A link, `lnk_…`.
    #[derive(Debug)]
    pub enum Link {}
    /// An API key, `key_…`.
    #[derive(Debug)]
    pub enum ApiKey {}
    /// A user, `usr_…`.
    #[derive(Debug)]
    pub enum User {}
    /// A session of a user, `ses_…`.
    #[derive(Debug)]
    pub enum Session {}
    /// A service account, `sva_…`.
    #[derive(Debug)]
    pub enum ServiceAccount {}
    /// An invitation to a workspace, `inv_…`.
    #[derive(Debug)]
    pub enum Invitation {}

    impl super::Kind for Workspace {
        const PREFIX: &'static str = "wsp_";
    }
    impl super::Kind for Link {
        const PREFIX: &'static str = "lnk_";
    }
    impl super::Kind for ApiKey {
        const PREFIX: &'static str = "key_";
    }
    impl super::Kind for User {
        const PREFIX: &'static str = "usr_";
    }
    impl super::Kind for Session {
        const PREFIX: &'static str = "ses_";
    }
    impl super::Kind for ServiceAccount {
        const PREFIX: &'static str = "sva_";
    }
    impl super::Kind for Invitation {
        const PREFIX: &'static str = "inv_";
    }
}

/// The id of a workspace.
pub type WorkspaceId = Id<kind::Workspace>;
/// The id of a link.
pub type LinkId = Id<kind::Link>;
/// The id of an API key.
pub type ApiKeyId = Id<kind::ApiKey>;
/// The id of a user.
pub type UserId = Id<kind::User>;
/// The id of a session.
pub type SessionId = Id<kind::Session>;
/// The id of a service account.
pub type ServiceAccountId = Id<kind::ServiceAccount>;
/// The id of an invitation.
pub type InvitationId = Id<kind::Invitation>;

/// An id of a kind `K`.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

/// Why a text or a slice is no id of the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `{prefix}` followed by 32 hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
}

impl<K: Kind> Id<K> {
    /// The id that belongs to nothing; rollups use it for "all".
    pub const NIL: Self = Self(Uuid::nil(), PhantomData);

    /// A new id, ordered by the time it was made.
    #[expect(clippy::new_without_default, reason = "two new ids are never equal")]
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7(), PhantomData)
    }

    /// Reads `wsp_…` and the like.
    ///
    /// # Errors
    /// If the prefix or the digits are wrong.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let wrong = IdError { prefix: K::PREFIX };
        let digits = text.strip_prefix(K::PREFIX).ok_or_else(|| wrong.clone())?;
        // Only the form that Display writes: hyphens and capitals would give one thing two names.
        let canonical = digits.len() == 32
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(wrong);
        }
        Uuid::try_parse(digits).map(Self::from).map_err(|_| wrong)
    }

    /// Reads the 16 bytes of the wire.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        Uuid::from_slice(bytes).map(Self::from).map_err(|_| IdError { prefix: K::PREFIX })
    }

    /// The 16 bytes for the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The UUID, for a store.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.0
    }
}

impl<K> From<Uuid> for Id<K> {
    fn from(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", K::PREFIX, self.0.simple())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Derived, these would ask K for what only the UUID needs.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = LinkId::new();
        assert_eq!(LinkId::parse(&id.to_string()), Ok(id));
        assert_eq!(LinkId::from_slice(id.as_bytes()), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_or_form_is_refused() {
        let digits = "0192f0a1b2c3d4e5f60718293a4b5c6d";
        assert!(LinkId::parse(&format!("lnk_{digits}")).is_ok());
        for text in [
            "",
            "lnk_",
            digits,
            &format!("wsp_{digits}"),
            &format!("lnk_{}", &digits[1..]),
            &format!("lnk_{digits}0"),
            &format!("lnk_{}", digits.to_uppercase()),
            "lnk_0192f0a1-b2c3-d4e5-f607-18293a4b5c6d",
        ] {
            assert!(LinkId::parse(text).is_err(), "{text}");
        }
        assert!(LinkId::from_slice(&[0; 15]).is_err());
    }
}
