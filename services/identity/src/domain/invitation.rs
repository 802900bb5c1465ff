//! Invitations, and the rules they keep.

use auth::Role;
use jiff::{SignedDuration, Timestamp};
use rpc::{InvitationId, UserId, WorkspaceId};

use super::Email;

/// How long an invitation is open.
pub(crate) const INVITATION_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Open invitations of one workspace, at most.
pub(crate) const INVITATIONS_MAX: i64 = 100;

pub(crate) const TOO_MANY_INVITATIONS: &str =
    "a workspace has at most 100 open invitations; take one back first";
pub(crate) const INVITED_ANOTHER: &str =
    "the invitation is for another e-mail address; sign in with the account of that one";
pub(crate) const MEMBER_ALREADY: &str = "you are a member of the workspace already";

/// An address that was asked to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub id: InvitationId,
    pub workspace: WorkspaceId,
    pub email: Email,
    pub role: Role,
    /// None: an API key or an operator.
    pub inviter: Option<UserId>,
    pub create_time: Timestamp,
    pub expire_time: Timestamp,
}

impl Invitation {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}/invitations/{}", self.workspace, self.id)
    }

    /// Whether whoever invited could still do so, `held` being their role now, if they have one: nobody comes in by somebody who
    /// was shown out.
    pub(crate) fn holds(&self, held: Option<Role>) -> bool {
        self.inviter.is_none() || held.is_some_and(|held| held.may_give(self.role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_worth_what_its_inviter_can_give_now() {
        let invitation = |role, inviter| Invitation {
            id: InvitationId::new(),
            workspace: WorkspaceId::new(),
            email: Email::parse("ada@example.com").unwrap(),
            role,
            inviter,
            create_time: Timestamp::UNIX_EPOCH,
            expire_time: Timestamp::UNIX_EPOCH + INVITATION_LIFE,
        };
        let by_somebody = |role| invitation(role, Some(UserId::new()));
        for (role, held, holds) in [
            (Role::Owner, Some(Role::Owner), true),
            (Role::Owner, Some(Role::Admin), false),
            (Role::Viewer, Some(Role::Admin), true),
            // May look as well as a viewer, and may not invite.
            (Role::Viewer, Some(Role::Member), false),
            (Role::Viewer, None, false),
        ] {
            assert_eq!(by_somebody(role).holds(held), holds, "{role:?} {held:?}");
        }
        assert!(invitation(Role::Owner, None).holds(None));
    }
}
