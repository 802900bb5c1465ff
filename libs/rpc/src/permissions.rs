//! What may be done in a workspace: a set of scopes, small enough to be copied.

use proto::common::v1::Scope;

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u64);

/// Scopes are numbered below this.
const NUMBERS_END: i32 = u64::BITS as i32;

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// To invite, change and remove members.
    pub const MEMBERS_WRITE: Self = Self::of(&[Scope::MembersWrite]);
    /// Everything there is.
    pub const ALL: Self = Self::of(&[
        Scope::LinksRead,
        Scope::LinksWrite,
        Scope::AnalyticsRead,
        Scope::WorkspaceRead,
        Scope::WorkspaceWrite,
        Scope::MembersRead,
        Scope::MembersWrite,
        Scope::BillingRead,
        Scope::BillingWrite,
        Scope::AuditRead,
        Scope::ServiceAccountsRead,
        Scope::ServiceAccountsWrite,
    ]);

    /// These scopes.
    #[must_use]
    pub const fn of(scopes: &[Scope]) -> Self {
        let mut set = 0;
        let mut nth = 0;
        while nth < scopes.len() {
            set |= bit(scopes[nth]);
            nth += 1;
        }
        Self(set)
    }

    /// The scopes with these numbers, as the wire and stores have them. Numbers of a newer version are left out: what is not known
    /// allows nothing.
    #[must_use]
    pub fn from_numbers(numbers: &[i32]) -> Self {
        numbers.iter().filter_map(|number| scope(*number)).collect()
    }

    /// The numbers of the scopes, in order.
    #[must_use]
    pub fn numbers(self) -> Vec<i32> {
        self.scopes().map(i32::from).collect()
    }

    /// Whether the scope is among them.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// What is in either set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn with_only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is no scope.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of their numbers.
    pub fn scopes(self) -> impl Iterator<Item = Scope> {
        (1..NUMBERS_END).filter_map(scope).filter(move |scope| self.contains(*scope))
    }

    /// The scopes' names, as the API spells them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.scopes().map(|scope| scope.as_str_name())
    }
}

impl FromIterator<Scope> for Permissions {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

const fn bit(scope: Scope) -> u64 {
    if matches!(scope, Scope::Unspecified) { 0 } else { 1 << scope as i32 }
}

fn scope(number: i32) -> Option<Scope> {
    let known = Scope::try_from(number).ok()?;
    (known != Scope::Unspecified).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_every_scope_of_the_proto() {
        let every: Permissions = (0..NUMBERS_END).filter_map(scope).collect();
        assert_eq!(Permissions::ALL, every);
        let names = proto::DESCRIPTORS.get_enum_by_name("linkmesh.common.v1.Scope").expect("it is");
        assert_eq!(Permissions::ALL.numbers().len(), names.values().count() - 1);
    }

    #[test]
    fn a_set_reads_back_its_numbers_and_leaves_out_what_is_not_known() {
        assert_eq!(Permissions::from_numbers(&[5, 1, 5, 0, 63, 64, 99, -1]).numbers(), [1, 5]);
        assert_eq!(Permissions::from_numbers(&[0]), Permissions::NONE);
        assert_eq!(Permissions::from_numbers(&Permissions::ALL.numbers()), Permissions::ALL);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let held = Permissions::of(&[Scope::LinksRead]);
        let wanted = Permissions::of(&[Scope::LinksRead, Scope::LinksWrite]);
        assert_eq!(wanted.without(held).names().next(), Some("SCOPE_LINKS_WRITE"));
        assert!(held.without(wanted).is_empty());
        assert!(!held.contains(Scope::Unspecified));
    }
}
