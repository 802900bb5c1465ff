//! What an invitation is worth, who sees it, and how many there may be.

use super::*;

#[tokio::test]
async fn an_invitation_is_taken_along_and_erased_with_whom_it_is_for_and_who_made_it() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let (ada, grace) = (service.person(EMAIL).await, service.person("grace@example.com").await);
    let to_ada = invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    let export = ada.asks(ExportUserRequest { name: me() });
    let exported = service.users().export_user(export).await.unwrap().into_inner();
    let document: serde_json::Value = serde_json::from_str(&exported.document).unwrap();
    assert_eq!(document["invitations"][0]["name"], to_ada.name.as_str());
    assert_eq!(document["invitations"][0]["role"], "ROLE_VIEWER");

    let message = proto::identity::v1::CreateWorkspaceRequest {
        workspace: Some(proto::identity::v1::Workspace {
            display_name: "Grace's".to_owned(),
            ..Default::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    service.workspaces().create_workspace(grace.asks(message)).await.unwrap();
    let graces = service.refreshed(&grace.principal).await;
    invite(&service, &graces, to("joan@example.com", Role::Viewer)).await.unwrap();
    for person in [&ada, &grace] {
        let erase =
            EraseUserRequest { name: me(), password: PASSWORD.to_owned(), ..Default::default() };
        service.users().erase_user(person.asks(erase)).await.unwrap();
    }
    let (left,): (i64,) = sqlx::query_as("select count(*) from identity.invitations")
        .fetch_one(service.database.open().primary())
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(actions(&service, &owner).await[0], AuditAction::InvitationRevoked);
    service.stop().await;
}

#[tokio::test]
async fn an_operator_invites_the_first_owner_of_a_workspace() {
    let service = Service::start().await;
    let key = service.owner().await;
    let ada = service.person(EMAIL).await;
    let message = CreateInvitationRequest {
        parent: parent(&key),
        invitation: Some(to(EMAIL, Role::Owner)),
        ..Default::default()
    };
    let created = service.invitations_as_operator().create_invitation(message).await.unwrap();
    assert_eq!(created.into_inner().invitation.unwrap().inviter, "");
    let token = token_to(&service, EMAIL).await;
    let member = accept(&service, &ada, &token).await.unwrap();
    assert_eq!(member.role(), Role::Owner);
    let again = CreateInvitationRequest {
        parent: parent(&key),
        invitation: Some(to(EMAIL, Role::Viewer)),
        ..Default::default()
    };
    service.invitations_as_operator().create_invitation(again).await.unwrap();
    let newer = token_behind(&service, EMAIL, &token).await;
    assert_eq!(reason(accept(&service, &ada, &newer).await), "STATE_CONFLICT", "one already");
    let events = service.on_topic(bus::topics::USER_EVENTS, 3).await;
    assert!(events.iter().all(|event| UserEvent::decode(event.value.clone()).is_ok()));
    service.stop().await;
}

#[tokio::test]
async fn an_invitation_by_a_key_is_worth_what_the_key_may_do_when_it_is_accepted() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let mut scopes: Vec<Scope> = auth::Role::Viewer.permissions().scopes().collect();
    scopes.push(Scope::MembersWrite);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let made = service.create_key(&owner, key_with(&scopes)).await.unwrap();
        let name = made.api_key.unwrap().name;
        let (_, id) = rpc::name::child::<rpc::kind::ApiKey>("name", "apiKeys", &name).unwrap();
        keys.push((name, Principal::api_key(id, workspace(&owner), Permissions::of(&scopes))));
    }
    let (ada, grace) = (service.person(EMAIL).await, service.person("grace@example.com").await);
    invite(&service, &keys[0].1, to(EMAIL, Role::Viewer)).await.unwrap();
    invite(&service, &keys[1].1, to("grace@example.com", Role::Viewer)).await.unwrap();
    let revoke = RevokeApiKeyRequest { name: keys[0].0.clone(), ..Default::default() };
    service.api_keys().revoke_api_key(by(&owner, revoke)).await.unwrap();
    let token = token_to(&service, EMAIL).await;
    assert_eq!(reason(accept(&service, &ada, &token).await), "TOKEN_INVALID");
    let token = token_to(&service, "grace@example.com").await;
    assert_eq!(accept(&service, &grace, &token).await.unwrap().role(), Role::Viewer);
    service.stop().await;
}

#[tokio::test]
async fn whoever_loses_a_role_does_not_get_it_back_by_an_invitation() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let ada = service.person(EMAIL).await;
    let member = format!("{}/members/{}", parent(&owner), ada.principal.user().unwrap());
    invite(&service, &owner, to(EMAIL, Role::Admin)).await.unwrap();
    let first = token_to(&service, EMAIL).await;
    accept(&service, &ada, &first).await.unwrap();

    invite(&service, &owner, to(EMAIL, Role::Admin)).await.unwrap();
    let second = token_behind(&service, EMAIL, &first).await;
    let lower = Member { name: member.clone(), role: Role::Viewer.into(), ..Member::default() };
    let lower = UpdateMemberRequest { member: Some(lower), ..Default::default() };
    service.members().update_member(by(&owner, lower)).await.unwrap();
    assert_eq!(listed(&service, &owner).await, [], "lowered");

    forget_attempts(&service).await;
    invite(&service, &owner, to(EMAIL, Role::Admin)).await.unwrap();
    let third = token_behind(&service, EMAIL, &second).await;
    let remove = RemoveMemberRequest { name: member, ..Default::default() };
    service.members().remove_member(by(&owner, remove)).await.unwrap();
    for token in [&second, &third] {
        assert_eq!(reason(accept(&service, &ada, token).await), "TOKEN_INVALID");
    }
    let logged = actions(&service, &owner).await;
    assert_eq!(logged[0], AuditAction::InvitationRevoked);
    let revoked = logged.iter().filter(|one| **one == AuditAction::InvitationRevoked);
    assert_eq!(revoked.count(), 2);
    service.stop().await;
}

#[tokio::test]
async fn one_invitation_is_answered_once_by_whoever_comes_first() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let ada = service.person(EMAIL).await;
    let invited = invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    let token = token_to(&service, EMAIL).await;
    let revoke = RevokeInvitationRequest { name: invited.name, ..Default::default() };
    let revoke = async {
        let revoked = service.invitations().revoke_invitation(by(&owner, revoke)).await;
        revoked.map(drop)
    };
    let accept = || async { accept(&service, &ada, &token).await.map(drop) };
    let (one, other, revoked) = tokio::join!(accept(), accept(), revoke);
    let done = [&one, &other, &revoked].iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(done, 1, "{one:?} {other:?} {revoked:?}");
    let members = service.grants(ada.principal.user().unwrap()).await.grants.len();
    assert_eq!(members, usize::from(revoked.is_err()));
    service.stop().await;
}

#[tokio::test]
async fn one_user_invites_only_so_many_in_however_many_workspaces() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let mut other = owner.clone();
    other.grants[0].workspace = workspace(&service.owner().await);
    for nth in 0..50 {
        let caller = if nth % 2 == 0 { &owner } else { &other };
        invite(&service, caller, to(&format!("user{nth}@example.com"), Role::Viewer))
            .await
            .unwrap();
    }
    let mut refused = 0;
    // While one more is allowed every 30 seconds.
    for nth in 50..60 {
        let one = invite(&service, &other, to(&format!("user{nth}@example.com"), Role::Viewer));
        refused += usize::from(one.await.is_err());
    }
    assert!(refused > 0);
    service.stop().await;
}

#[tokio::test]
async fn who_only_reads_sees_roles_and_no_addresses() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    let viewer = service.member_of(workspace(&owner), Role::Viewer).await;
    let reader = with(&viewer, &[Scope::MembersRead]);
    let seen = listed(&service, &reader).await;
    assert_eq!((seen[0].email.as_str(), seen[0].role()), ("", Role::Viewer));
    assert_eq!(listed(&service, &owner).await[0].email, EMAIL);
    service.stop().await;
}
