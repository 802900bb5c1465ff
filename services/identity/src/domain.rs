//! What workspaces, API keys and users are, and the rules they keep: no input or output, no wire, no store.

mod email;
mod invitation;
mod last_use;
pub(crate) mod limit;
mod membership;
pub(crate) mod password;
pub(crate) mod recovery;
pub(crate) mod session;
pub(crate) mod signing;
pub(crate) mod totp;
mod user;

use std::time::Duration;

use auth::Role;
use jiff::{SignedDuration, Timestamp};
use rpc::{ApiKeyId, Permissions, ServiceAccountId, WorkspaceId};

pub(crate) use email::Email;
pub(crate) use invitation::{
    INVITATION_LIFE, INVITATIONS_MAX, INVITED_ANOTHER, Invitation, Inviter, MEMBER_ALREADY,
    TOO_MANY_INVITATIONS,
};
pub(crate) use last_use::LastUses;
pub(crate) use membership::{
    MEMBERS_MAX, Member, SERVICE_ACCOUNTS_MAX, ServiceAccount, TOO_MANY_MEMBERS,
    TOO_MANY_SERVICE_ACCOUNTS, TOO_MANY_WORKSPACES, role, service_account_name,
};
pub(crate) use recovery::Factor;
pub(crate) use user::User;

/// What a display name measures at most, in characters.
const DISPLAY_NAME_CHARS_MAX: usize = 100;
/// Keys of one workspace that are neither revoked nor expired, at most.
pub(crate) const LIVE_KEYS_MAX: i64 = 1_000;

pub(crate) const KEY_NOT_LIVE: &str = "the API key is revoked or expired; create another one";

/// What a field must keep to and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field within its message, such as `display_name`.
    pub field: &'static str,
    /// What is wrong, with the limit.
    pub why: String,
}

impl Violation {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// The cases that a caller can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// A field is missing or out of its limits.
    Invalid(Violation),
    /// The resource of this name does not exist in the caller's workspace.
    NotFound(String),
    /// The workspace has as many live keys as it may.
    TooManyKeys,
    /// Someone else changed the workspace first.
    EtagMismatch,
    /// The request id stands for another request.
    RequestIdReused,
    /// Address or password is wrong; nobody is told which.
    SignInRefused,
    /// What was given out to be used once is unknown, used, or expired.
    TokenInvalid,
    /// The session has ended, or never was.
    SessionEnded,
    /// The code of a second factor is wrong, or was used.
    FactorRefused,
    /// The address has an account.
    EmailTaken,
    /// The state does not allow it; says why.
    Conflict(&'static str),
    /// Too many attempts; says how long to wait.
    RateLimited(Duration),
    /// More passwords wait to be checked than may.
    PasswordsOverloaded,
    /// The provider has not verified the address.
    EmailUnverified,
    /// What the provider answered proves nothing; says what is wrong with it.
    ProviderRefused(String),
    /// The provider does not answer.
    ProviderUnavailable(String),
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Invalid(violation)
    }
}

/// Checks the scopes that a caller sent: known ones, and at least one.
pub(crate) fn scopes(numbers: &[i32]) -> Result<Permissions, Violation> {
    let mut scopes = Permissions::NONE;
    for number in numbers {
        let scope = Permissions::from_numbers(&[*number]);
        if scope.is_empty() {
            let known: Vec<_> = Permissions::ALL.names().collect();
            let why = format!("must be of {}; number {number} is none of them", known.join(", "));
            return Err(Violation::new("scopes", why));
        }
        scopes = scopes.with(scope);
    }
    if scopes.is_empty() {
        return Err(Violation::new("scopes", "must name at least one scope"));
    }
    Ok(scopes)
}

/// Checks the display name of a workspace or a key.
pub(crate) fn display_name(text: &str) -> Result<String, Violation> {
    let refuse = |why: String| Err(Violation::new("display_name", why));
    let chars = text.chars().count();
    if chars == 0 || chars > DISPLAY_NAME_CHARS_MAX {
        return refuse(format!("must have 1 to {DISPLAY_NAME_CHARS_MAX} characters, has {chars}"));
    }
    if let Some((at, character)) = text.char_indices().find(|(_, one)| one.is_control()) {
        return refuse(format!(
            "must not contain control characters, has {character:?} at byte {at}"
        ));
    }
    Ok(text.to_owned())
}

/// How long an old key may work beside the one that replaces it.
const OVERLAP_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Checks how long an old key is to work beside the one that replaces it: seconds, and the nanoseconds beyond them.
pub(crate) fn overlap(seconds: i64, nanos: i32) -> Result<SignedDuration, Violation> {
    let overlap =
        SignedDuration::from_secs(seconds).checked_add(SignedDuration::from_nanos(nanos.into()));
    let is_good = |overlap: &SignedDuration| !overlap.is_negative() && *overlap <= OVERLAP_MAX;
    overlap.filter(is_good).ok_or_else(|| Violation::new("overlap", "must be 0 to 7 days"))
}

/// Checks a key's time of expiry, and cuts it to the microseconds that are kept.
pub(crate) fn expiry(time: Timestamp, now: Timestamp) -> Result<Timestamp, Violation> {
    match Timestamp::from_microsecond(time.as_microsecond()) {
        Ok(time) if time > now => Ok(time),
        _ => Err(Violation::new("expire_time", "must be in the future")),
    }
}

/// The version after a change at `now_micros` (since 1970): it grows, through a restore from a backup too.
pub(crate) fn next_version(last: i64, now_micros: i64) -> i64 {
    last.saturating_add(1).max(now_micros)
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workspace {
    pub id: WorkspaceId,
    pub display_name: String,
    /// A number of `linkmesh.common.v1.Tier`.
    pub tier: i32,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// Grows with every change.
    pub version: i64,
}

impl Workspace {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}", self.id)
    }

    /// Changes with every change.
    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.version)
    }
}

/// An API key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub id: ApiKeyId,
    pub workspace: WorkspaceId,
    pub display_name: String,
    pub prefix: String,
    pub scopes: Permissions,
    /// Whose it is; none: the workspace's own.
    pub service_account: Option<ServiceAccountId>,
    pub expire_time: Option<Timestamp>,
    pub create_time: Timestamp,
    pub last_use_time: Option<Timestamp>,
    pub revoke_time: Option<Timestamp>,
    /// Grows with every change that an edge must know of.
    pub version: i64,
}

impl ApiKey {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}/apiKeys/{}", self.workspace, self.id)
    }

    /// What it may do, given the role of whose it is.
    pub(crate) fn permissions(&self, role: Option<Role>) -> Permissions {
        match role {
            None => self.scopes,
            Some(role) => self.scopes.with_only(role.permissions()),
        }
    }

    /// Whether it stands for its workspace at `now`.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|time| now < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn key() -> ApiKey {
        ApiKey {
            id: ApiKeyId::new(),
            workspace: WorkspaceId::new(),
            display_name: "k".to_owned(),
            prefix: "p".to_owned(),
            scopes: scopes(&[1]).unwrap(),
            service_account: None,
            expire_time: None,
            create_time: Timestamp::UNIX_EPOCH,
            last_use_time: None,
            revoke_time: None,
            version: 1,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_display_name_has_1_to_100_characters_and_none_of_control() {
        for (text, part) in [
            ("", "1 to 100 characters, has 0"),
            (&*"x".repeat(101), "has 101"),
            ("a\nb", "'\\n' at byte 1"),
        ] {
            let violation = display_name(text).unwrap_err();
            assert_eq!(violation.field, "display_name");
            assert!(violation.why.contains(part), "{}", violation.why);
        }
        assert!(display_name(&"ü".repeat(100)).is_ok());
    }

    #[test]
    fn scopes_are_known_distinct_and_at_least_one() {
        assert_eq!(scopes(&[5, 1, 5]).unwrap().numbers(), [1, 5]);
        for numbers in [&[][..], &[0], &[1, 60], &[-1]] {
            assert_eq!(scopes(numbers).unwrap_err().field, "scopes");
        }
    }

    #[test]
    fn a_key_may_do_what_both_its_scopes_and_its_owners_role_allow() {
        let key = ApiKey { scopes: scopes(&[1, 2, 5]).unwrap(), ..key() };
        assert_eq!(key.permissions(None).numbers(), [1, 2, 5]);
        assert_eq!(key.permissions(Some(Role::Viewer)).numbers(), [1]);
    }

    #[test]
    fn an_old_key_works_beside_the_new_one_for_7_days_at_most() {
        for (seconds, nanos, is_good) in [
            (0, 0, true),
            (604_800, 0, true),
            (604_799, 999_999_999, true),
            (604_800, 1, false),
            (604_801, 0, false),
            (0, -1, false),
            (-1, 0, false),
            (i64::MAX, i32::MAX, false),
        ] {
            assert_eq!(overlap(seconds, nanos).is_ok(), is_good, "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_key_is_live_until_it_expires_or_is_revoked() {
        assert!(key().is_live(at(100)));
        let expiring = ApiKey { expire_time: Some(at(100)), ..key() };
        assert!(expiring.is_live(at(99)));
        assert!(!expiring.is_live(at(100)));
        assert!(!ApiKey { revoke_time: Some(at(1)), ..key() }.is_live(at(100)));
    }

    #[test]
    fn an_expiry_lies_in_the_future() {
        assert!(expiry(at(100), at(100)).is_err());
        assert_eq!(expiry(at(101), at(100)), Ok(at(101)));
    }

    proptest! {
        #[test]
        fn versions_only_grow_whatever_the_clock_does(last in 0..i64::MAX / 2, now in i64::MIN..i64::MAX / 2) {
            prop_assert!(next_version(last, now) > last);
            prop_assert!(next_version(last, now) >= now);
        }
    }
}
