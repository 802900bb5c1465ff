//! Roles, and the one table of what each allows.

use proto::common::v1::Scope;
use rpc::Permissions;

/// What a member or a service account is in a workspace; the numbers are those of `linkmesh.common.v1.Role`, and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Role {
    /// Everything.
    Owner = 1,
    /// Everything but changing how it is paid for.
    Admin = 2,
    /// Works with links and counts.
    Member = 3,
    /// Looks at links and counts.
    Viewer = 4,
    /// Pays.
    Billing = 5,
}

const ADMIN: Permissions = Permissions::ALL.without(Permissions::of(&[Scope::BillingWrite]));
const VIEWER: Permissions = Permissions::of(&[
    Scope::LinksRead,
    Scope::AnalyticsRead,
    Scope::WorkspaceRead,
    Scope::MembersRead,
]);
const MEMBER: Permissions = VIEWER.with(Permissions::of(&[Scope::LinksWrite]));
const BILLING: Permissions =
    Permissions::of(&[Scope::WorkspaceRead, Scope::BillingRead, Scope::BillingWrite]);

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 5] =
        [Self::Owner, Self::Admin, Self::Member, Self::Viewer, Self::Billing];

    /// The role of this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }

    /// On the wire and in stores.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// As the API spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "ROLE_OWNER",
            Self::Admin => "ROLE_ADMIN",
            Self::Member => "ROLE_MEMBER",
            Self::Viewer => "ROLE_VIEWER",
            Self::Billing => "ROLE_BILLING",
        }
    }

    /// What it allows in its workspace. All of them may read the workspace, which is what leaving it asks for.
    pub const fn permissions(self) -> Permissions {
        match self {
            Self::Owner => Permissions::ALL,
            Self::Admin => ADMIN,
            Self::Member => MEMBER,
            Self::Viewer => VIEWER,
            Self::Billing => BILLING,
        }
    }

    /// Whether whoever has it may give somebody else that role: it allows to invite, and all that the other one allows.
    pub const fn may_give(self, role: Self) -> bool {
        let held = self.permissions();
        held.contains(Scope::MembersWrite) && role.permissions().without(held).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_those_of_the_proto() {
        let wire = proto::DESCRIPTORS.get_enum_by_name("linkmesh.common.v1.Role").unwrap();
        let wire: Vec<_> =
            wire.values().map(|value| (value.number(), value.name().to_owned())).collect();
        let ours = Role::ALL.map(|role| (role.number(), role.name().to_owned()));
        assert_eq!(wire[1..], ours);
        assert_eq!(wire[0].0, 0);
        for number in [0, 6, -1] {
            assert_eq!(Role::from_number(number), None);
        }
    }

    #[test]
    fn a_role_is_given_by_whoever_may_invite_and_holds_all_of_it() {
        for (giver, given) in [
            (Role::Owner, &Role::ALL[..]),
            (Role::Admin, &[Role::Admin, Role::Member, Role::Viewer][..]),
            (Role::Member, &[][..]),
            (Role::Viewer, &[][..]),
            (Role::Billing, &[][..]),
        ] {
            let may: Vec<_> = Role::ALL.into_iter().filter(|role| giver.may_give(*role)).collect();
            assert_eq!(may, given, "{giver:?}");
        }
    }

    #[test]
    fn whoever_may_write_may_read() {
        for role in Role::ALL {
            let held = role.permissions();
            for (write, read) in [
                (Scope::LinksWrite, Scope::LinksRead),
                (Scope::WorkspaceWrite, Scope::WorkspaceRead),
                (Scope::MembersWrite, Scope::MembersRead),
                (Scope::BillingWrite, Scope::BillingRead),
                (Scope::ServiceAccountsWrite, Scope::ServiceAccountsRead),
            ] {
                assert!(!held.contains(write) || held.contains(read), "{role:?} {write:?}");
            }
            assert!(held.contains(Scope::WorkspaceRead), "{role:?}");
        }
    }
}
