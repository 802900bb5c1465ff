//! Who may call what: every method that a client can reach, by every role, in the own workspace, in another's and without one.
//!
//! The methods come from the descriptors: a new one fails until it has a row here.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use auth::Role;
use proto::common::v1::{ErrorReason, Tier};
use rpc::{
    ApiKeyId, Caller, Grant, Permissions, Principal, Requirement, SessionId, UserId, WorkspaceId,
};

/// Who may call a method.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// Members of the workspace with one of these roles.
    Roles(&'static [Role]),
    /// Whoever is signed in, member of anything or not.
    Users,
    /// Whoever there is: nothing is proved.
    Anyone,
}

use Role::{Admin, Billing, Member, Owner, Viewer};

const EVERY_ROLE: Who = Who::Roles(&[Owner, Admin, Member, Viewer, Billing]);
/// Who works in the workspace, or looks.
const READERS: Who = Who::Roles(&[Owner, Admin, Member, Viewer]);
const WRITERS: Who = Who::Roles(&[Owner, Admin, Member]);
const ADMINS: Who = Who::Roles(&[Owner, Admin]);

/// The table.
const MAY: &[(&str, Who)] = &[
    ("linkmesh.analytics.v1.AnalyticsService/BreakDownClicks", READERS),
    ("linkmesh.analytics.v1.AnalyticsService/CountClicks", READERS),
    ("linkmesh.analytics.v1.AnalyticsService/ListClickIntervals", READERS),
    ("linkmesh.analytics.v1.AnalyticsService/WatchClicks", READERS),
    ("linkmesh.identity.v1.ApiKeysService/CreateApiKey", ADMINS),
    ("linkmesh.identity.v1.ApiKeysService/GetApiKey", EVERY_ROLE),
    ("linkmesh.identity.v1.ApiKeysService/ListApiKeys", EVERY_ROLE),
    ("linkmesh.identity.v1.ApiKeysService/RevokeApiKey", ADMINS),
    ("linkmesh.identity.v1.ApiKeysService/RotateApiKey", ADMINS),
    ("linkmesh.identity.v1.AuditService/ListAuditEvents", ADMINS),
    ("linkmesh.identity.v1.AuditService/ListOwnAuditEvents", Who::Users),
    ("linkmesh.identity.v1.InvitationsService/AcceptInvitation", Who::Users),
    ("linkmesh.identity.v1.InvitationsService/CreateInvitation", ADMINS),
    ("linkmesh.identity.v1.InvitationsService/DeclineInvitation", Who::Users),
    ("linkmesh.identity.v1.InvitationsService/ListInvitations", READERS),
    ("linkmesh.identity.v1.InvitationsService/RevokeInvitation", ADMINS),
    ("linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys", Who::Anyone),
    ("linkmesh.identity.v1.MembersService/GetMember", READERS),
    ("linkmesh.identity.v1.MembersService/LeaveWorkspace", EVERY_ROLE),
    ("linkmesh.identity.v1.MembersService/ListMembers", READERS),
    ("linkmesh.identity.v1.MembersService/RemoveMember", ADMINS),
    ("linkmesh.identity.v1.MembersService/UpdateMember", ADMINS),
    ("linkmesh.identity.v1.ProvidersService/BeginProviderSignIn", Who::Anyone),
    ("linkmesh.identity.v1.ProvidersService/ConfirmProviderLink", Who::Anyone),
    ("linkmesh.identity.v1.ProvidersService/FinishProviderSignIn", Who::Anyone),
    ("linkmesh.identity.v1.ProvidersService/ListProviders", Who::Anyone),
    ("linkmesh.identity.v1.SecondFactorsService/ConfirmTotp", Who::Users),
    ("linkmesh.identity.v1.SecondFactorsService/DisableTotp", Who::Users),
    ("linkmesh.identity.v1.SecondFactorsService/EnrollTotp", Who::Users),
    ("linkmesh.identity.v1.SecondFactorsService/ReplaceRecoveryCodes", Who::Users),
    ("linkmesh.identity.v1.ServiceAccountsService/CreateServiceAccount", ADMINS),
    ("linkmesh.identity.v1.ServiceAccountsService/DeleteServiceAccount", ADMINS),
    ("linkmesh.identity.v1.ServiceAccountsService/GetServiceAccount", ADMINS),
    ("linkmesh.identity.v1.ServiceAccountsService/ListServiceAccounts", ADMINS),
    ("linkmesh.identity.v1.ServiceAccountsService/UpdateServiceAccount", ADMINS),
    ("linkmesh.identity.v1.SessionsService/CompleteSignIn", Who::Anyone),
    ("linkmesh.identity.v1.SessionsService/EndAllSessions", Who::Users),
    ("linkmesh.identity.v1.SessionsService/EndSession", Who::Users),
    ("linkmesh.identity.v1.SessionsService/ListSessions", Who::Users),
    ("linkmesh.identity.v1.SessionsService/RefreshSession", Who::Anyone),
    ("linkmesh.identity.v1.SessionsService/SignIn", Who::Anyone),
    ("linkmesh.identity.v1.UsersService/ChangePassword", Who::Users),
    ("linkmesh.identity.v1.UsersService/EraseUser", Who::Users),
    ("linkmesh.identity.v1.UsersService/ExportUser", Who::Users),
    ("linkmesh.identity.v1.UsersService/GetUser", Who::Users),
    ("linkmesh.identity.v1.UsersService/RequestPasswordReset", Who::Anyone),
    ("linkmesh.identity.v1.UsersService/ResetPassword", Who::Anyone),
    ("linkmesh.identity.v1.UsersService/SignUp", Who::Anyone),
    ("linkmesh.identity.v1.UsersService/UpdateUser", Who::Users),
    ("linkmesh.identity.v1.UsersService/VerifyEmail", Who::Anyone),
    ("linkmesh.identity.v1.WorkspacesService/CreateWorkspace", Who::Users),
    ("linkmesh.identity.v1.WorkspacesService/GetWorkspace", EVERY_ROLE),
    ("linkmesh.identity.v1.WorkspacesService/ListWorkspaces", Who::Users),
    ("linkmesh.identity.v1.WorkspacesService/UpdateWorkspace", ADMINS),
    ("linkmesh.links.v1.DomainsService/CreateDomain", WRITERS),
    ("linkmesh.links.v1.DomainsService/DeleteDomain", WRITERS),
    ("linkmesh.links.v1.DomainsService/GetDomain", READERS),
    ("linkmesh.links.v1.DomainsService/ListDomains", READERS),
    ("linkmesh.links.v1.LinksService/BatchCreateLinks", WRITERS),
    ("linkmesh.links.v1.LinksService/CreateLink", WRITERS),
    ("linkmesh.links.v1.LinksService/DeleteLink", WRITERS),
    ("linkmesh.links.v1.LinksService/GetLink", READERS),
    ("linkmesh.links.v1.LinksService/ListLinks", READERS),
    ("linkmesh.links.v1.LinksService/UpdateLink", WRITERS),
];

/// Every method with a REST route: `package.Service/Method`.
fn public_methods() -> BTreeSet<String> {
    let http = proto::DESCRIPTORS.get_extension_by_name("google.api.http").expect("it is imported");
    let services = proto::DESCRIPTORS.services();
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .filter(|method| method.options().has_extension(&http))
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .collect()
}

fn member(workspace: WorkspaceId, role: Role) -> Principal {
    Principal {
        caller: Caller::User { user: UserId::new(), session: SessionId::new() },
        grants: vec![Grant { workspace, permissions: role.permissions() }],
        tier: Tier::Free,
    }
}

fn decided(
    principal: &Principal,
    method: &str,
    workspace: Option<WorkspaceId>,
) -> Option<ErrorReason> {
    let requirement = Requirement::of_path(&format!("/{method}"));
    principal.authorize(requirement, workspace).err().map(|error| error.reason)
}

#[test]
fn every_method_has_a_row_and_every_row_a_method() {
    let rows: BTreeSet<String> = MAY.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(rows.len(), MAY.len(), "a method has two rows");
    assert_eq!(rows, public_methods());
}

#[test]
fn each_role_may_call_in_its_own_workspace_what_the_table_says_and_nothing_elsewhere() {
    let (own, other) = (WorkspaceId::new(), WorkspaceId::new());
    for (method, who) in MAY {
        for role in Role::ALL {
            let caller = member(own, role);
            match who {
                Who::Roles(roles) => {
                    let expected =
                        (!roles.contains(&role)).then_some(ErrorReason::RoleInsufficient);
                    assert_eq!(decided(&caller, method, Some(own)), expected, "{method} {role:?}");
                    let elsewhere = decided(&caller, method, Some(other));
                    assert_eq!(elsewhere, Some(ErrorReason::NotFound), "{method} {role:?}");
                    let nowhere = Principal { grants: Vec::new(), ..caller };
                    let outside = decided(&nowhere, method, Some(own));
                    assert_eq!(outside, Some(ErrorReason::NotFound), "{method} {role:?}");
                }
                Who::Anyone => {
                    let key = Principal::api_key(ApiKeyId::new(), own, Permissions::NONE);
                    for nobody in [&caller, &key] {
                        assert_eq!(decided(nobody, method, None), None, "{method}");
                    }
                }
                Who::Users => {
                    assert_eq!(decided(&caller, method, None), None, "{method}");
                    let nowhere = Principal { grants: Vec::new(), ..caller };
                    assert_eq!(decided(&nowhere, method, None), None, "{method}");
                    let key = Principal::api_key(ApiKeyId::new(), own, Permissions::ALL);
                    let refused = decided(&key, method, None);
                    assert_eq!(refused, Some(ErrorReason::UserRequired), "{method}");
                }
            }
        }
    }
}

#[test]
fn a_key_may_call_what_its_scopes_allow_and_no_more() {
    let own = WorkspaceId::new();
    let mut by_scope: BTreeMap<&str, usize> = BTreeMap::new();
    for (method, _) in MAY {
        let Some(Requirement::Permission(needed)) = Requirement::of_path(&format!("/{method}"))
        else {
            continue;
        };
        *by_scope.entry(needed.as_str_name()).or_default() += 1;
        let key = |permissions| Principal::api_key(ApiKeyId::new(), own, permissions);
        let with = key(Permissions::of(&[needed]));
        assert_eq!(decided(&with, method, Some(own)), None, "{method}");
        let without = key(Permissions::ALL.without(Permissions::of(&[needed])));
        let refused = decided(&without, method, Some(own));
        assert_eq!(refused, Some(ErrorReason::ScopeMissing), "{method}");
        let elsewhere = decided(&key(Permissions::ALL), method, Some(WorkspaceId::new()));
        assert_eq!(elsewhere, Some(ErrorReason::NotFound), "{method}");
    }
    assert!(by_scope.len() >= 5, "{by_scope:?}");
}
