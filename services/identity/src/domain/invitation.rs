//! Invitations, and the rules they keep.

use auth::Role;
use jiff::{SignedDuration, Timestamp};
use rpc::{ApiKeyId, InvitationId, Permissions, UserId, WorkspaceId};

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

/// Who invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inviter {
    User(UserId),
    Key(ApiKeyId),
    /// Who runs Linkmesh: what they offer does not hang on anybody.
    Operator,
}

/// An address that was asked to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub id: InvitationId,
    pub workspace: WorkspaceId,
    pub email: Email,
    pub role: Role,
    pub inviter: Inviter,
    pub create_time: Timestamp,
    pub expire_time: Timestamp,
}

impl Invitation {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}/invitations/{}", self.workspace, self.id)
    }

    /// Whether whoever invited could still do so, `held` being what they may do in the workspace now: nobody comes in by somebody who
    /// was shown out, or by a key that was revoked.
    pub(crate) fn holds(&self, held: Permissions) -> bool {
        let needed = self.role.permissions().with(Permissions::MEMBERS_WRITE);
        self.inviter == Inviter::Operator || needed.without(held).is_empty()
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
        let by_user = |role| invitation(role, Inviter::User(UserId::new()));
        let by_key = |role| invitation(role, Inviter::Key(ApiKeyId::new()));
        for (role, held, holds) in [
            (Role::Owner, Some(Role::Owner), true),
            (Role::Owner, Some(Role::Admin), false),
            (Role::Viewer, Some(Role::Admin), true),
            // May look as well as a viewer, and may not invite.
            (Role::Viewer, Some(Role::Member), false),
            (Role::Viewer, None, false),
        ] {
            let held = held.map(Role::permissions).unwrap_or_default();
            for invitation in [by_user(role), by_key(role)] {
                assert_eq!(invitation.holds(held), holds, "{role:?} {held:?}");
            }
        }
        assert!(invitation(Role::Owner, Inviter::Operator).holds(Permissions::default()));
    }
}
