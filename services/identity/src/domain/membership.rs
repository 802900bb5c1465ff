//! Members and service accounts, and the rules they keep.

use auth::Role;
use jiff::Timestamp;
use rpc::{ServiceAccountId, UserId, WorkspaceId};

use super::{Error, Violation};

/// Members of one workspace, at most.
pub(crate) const MEMBERS_MAX: i64 = 1_000;
/// Service accounts of one workspace that are not deleted, at most.
pub(crate) const SERVICE_ACCOUNTS_MAX: i64 = 100;

pub(crate) const LAST_OWNER: &str = "a workspace has an owner; make somebody else one first";
pub(crate) const TOO_MANY_MEMBERS: &str = "a workspace has at most 1,000 members";
pub(crate) const TOO_MANY_WORKSPACES: &str = "a user is a member of at most 100 workspaces";
pub(crate) const TOO_MANY_SERVICE_ACCOUNTS: &str = "a workspace has at most 100 service accounts";

/// A user's part in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub role: Role,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Member {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}/members/{}", self.workspace, self.user)
    }

    /// Refuses to make the workspace's last owner anything else, nothing (`None`) included; `owners` counts this member too.
    pub(crate) fn may_become(&self, role: Option<Role>, owners: i64) -> Result<(), Error> {
        if self.role == Role::Owner && role != Some(Role::Owner) && owners <= 1 {
            return Err(Error::Conflict(LAST_OWNER));
        }
        Ok(())
    }
}

/// A program of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    pub id: ServiceAccountId,
    pub workspace: WorkspaceId,
    pub display_name: String,
    pub role: Role,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl ServiceAccount {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        service_account_name(self.workspace, self.id)
    }
}

/// The resource name of a service account.
pub(crate) fn service_account_name(workspace: WorkspaceId, account: ServiceAccountId) -> String {
    format!("workspaces/{workspace}/serviceAccounts/{account}")
}

/// Checks a role that a caller sent.
pub(crate) fn role(number: i32) -> Result<Role, Violation> {
    Role::from_number(number).ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        Violation::new("role", format!("must be one of {known}; number {number} is none of them"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_owner_must_stay_one() {
        let member = |role| Member {
            workspace: WorkspaceId::new(),
            user: UserId::new(),
            role,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
        };
        let owner = member(Role::Owner);
        for role in [None, Some(Role::Admin)] {
            assert_eq!(owner.may_become(role, 1), Err(Error::Conflict(LAST_OWNER)));
            assert_eq!(owner.may_become(role, 2), Ok(()));
            assert_eq!(member(Role::Admin).may_become(role, 1), Ok(()));
        }
        assert_eq!(owner.may_become(Some(Role::Owner), 1), Ok(()));
    }

    #[test]
    fn a_role_is_a_known_one() {
        assert_eq!(role(2), Ok(Role::Admin));
        for number in [0, 6, -1] {
            assert_eq!(role(number).unwrap_err().field, "role");
        }
    }
}
