//! Members: who is one, what they are, and who may change that.

use proto::common::v1::Role;
use proto::events::v1::UserGrantsChanged;
use proto::identity::v1::{
    GetMemberRequest, LeaveWorkspaceRequest, ListMembersRequest, Member, RemoveMemberRequest,
    UpdateMemberRequest,
};
use rpc::Principal;
use tonic::Status;

use super::harness::{Service, by, parent, reason, violation, workspace};

fn name(member: &Principal) -> String {
    format!("{}/members/{}", parent(member), member.user().unwrap())
}

async fn set_role(
    service: &Service,
    caller: &Principal,
    member: &Principal,
    role: Role,
) -> Result<Member, Status> {
    let member = Member { name: name(member), role: role.into(), ..Member::default() };
    let message = UpdateMemberRequest { member: Some(member), ..Default::default() };
    let updated = service.members().update_member(by(caller, message)).await?;
    Ok(updated.into_inner().member.unwrap())
}

async fn remove(service: &Service, caller: &Principal, member: &Principal) -> Result<(), Status> {
    let message = RemoveMemberRequest { name: name(member), ..Default::default() };
    service.members().remove_member(by(caller, message)).await.map(drop)
}

async fn leave(service: &Service, caller: &Principal) -> Result<(), Status> {
    let message = LeaveWorkspaceRequest { name: parent(caller), ..Default::default() };
    service.members().leave_workspace(by(caller, message)).await.map(drop)
}

#[tokio::test]
async fn a_role_is_changed_by_whoever_holds_all_of_the_old_and_the_new_one() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let admin = service.member_of(workspace(&owner), Role::Admin).await;
    let viewer = service.member_of(workspace(&owner), Role::Viewer).await;
    for (target, role) in [
        (&owner, Role::Viewer),
        (&viewer, Role::Owner),
        (&admin, Role::Owner),
        (&viewer, Role::Billing),
    ] {
        let refused = set_role(&service, &admin, target, role).await;
        assert_eq!(reason(refused), "ROLE_INSUFFICIENT", "{role:?}");
    }
    assert_eq!(reason(remove(&service, &admin, &owner).await), "ROLE_INSUFFICIENT");
    assert_eq!(
        reason(set_role(&service, &viewer, &admin, Role::Viewer).await),
        "ROLE_INSUFFICIENT"
    );
    let unknown = set_role(&service, &owner, &viewer, Role::Unspecified).await;
    assert!(unknown.is_ok_and(|member| member.role() == Role::Viewer), "nothing was to change");

    let before = service.grants(viewer.user().unwrap()).await.version;
    let member = set_role(&service, &admin, &viewer, Role::Member).await.unwrap();
    assert_eq!(member.role(), Role::Member);
    assert!(member.update_time.unwrap().seconds > 0 && member.create_time.unwrap().seconds == 0);
    let after = service.grants(viewer.user().unwrap()).await;
    assert!(after.version > before);
    let promoted = service.refreshed(&viewer).await;
    assert_ne!(promoted.grants, viewer.grants);
    set_role(&service, &owner, &viewer, Role::Owner).await.unwrap();
    let wrong = Member { name: name(&viewer), role: 77, ..Member::default() };
    let message = UpdateMemberRequest { member: Some(wrong), ..Default::default() };
    let wrong = service.members().update_member(by(&owner, message)).await;
    assert_eq!(violation(wrong).0, "member.role");
    service.stop().await;
}

#[tokio::test]
async fn a_removed_member_has_no_part_in_the_workspace_and_every_edge_is_told() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let member = service.member_of(workspace(&owner), Role::Member).await;
    let id = uuid::Uuid::new_v4().to_string();
    let message = RemoveMemberRequest { name: name(&member), request_id: id };
    for _ in 0..2 {
        // The second is the first one's answer, though there is nobody to remove any more.
        service.members().remove_member(by(&owner, message.clone())).await.unwrap();
    }
    assert_eq!(reason(remove(&service, &owner, &member).await), "NOT_FOUND");
    let grants = service.grants(member.user().unwrap()).await;
    assert_eq!(grants.grants, []);
    let user = member.user().unwrap();
    let is_told = |changes: &[UserGrantsChanged]| {
        let mut told = changes.iter().filter(|change| change.user_id == user.as_bytes());
        told.next_back().is_some_and(|change| change.version == grants.version)
    };
    service.announced(bus::topics::USER_CHANGES.name, is_told).await;
    let get = GetMemberRequest { name: name(&member) };
    assert_eq!(reason(service.members().get_member(by(&owner, get)).await), "NOT_FOUND");
    service.stop().await;
}

#[tokio::test]
async fn a_workspace_always_has_an_owner() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    assert_eq!(reason(leave(&service, &owner).await), "STATE_CONFLICT");
    assert_eq!(reason(remove(&service, &owner, &owner).await), "STATE_CONFLICT");
    assert_eq!(reason(set_role(&service, &owner, &owner, Role::Admin).await), "STATE_CONFLICT");
    let viewer = service.member_of(workspace(&owner), Role::Viewer).await;
    leave(&service, &viewer).await.unwrap();

    let other = service.member_of(workspace(&owner), Role::Owner).await;
    let (first, second) = tokio::join!(leave(&service, &owner), leave(&service, &other));
    let (left, refused): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
    assert_eq!((left.len(), refused.len()), (1, 1));
    assert_eq!(reason(refused.into_iter().next().unwrap()), "STATE_CONFLICT");
    service.stop().await;
}

#[tokio::test]
async fn members_are_listed_page_by_page() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let mut expected = vec![name(&owner)];
    for _ in 0..4 {
        expected.push(name(&service.member_of(workspace(&owner), Role::Viewer).await));
    }
    expected.sort();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = ListMembersRequest { parent: parent(&owner), page_size: 2, page_token };
        let page = service.members().list_members(by(&owner, message)).await.unwrap().into_inner();
        assert!(page.members.len() <= 2);
        listed.extend(page.members.into_iter().map(|member| member.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, expected);
    service.stop().await;
}

#[tokio::test]
async fn only_a_signed_in_user_can_leave() {
    let service = Service::start().await;
    let key = service.owner().await;
    assert_eq!(reason(leave(&service, &key).await), "USER_REQUIRED");
    service.stop().await;
}
