//! Invitations: who may invite whom as what, who may accept, and what becomes of what nobody answered.

mod worth;

use prost::Message as _;
use proto::common::v1::{Role, Scope};
use proto::events::v1::UserEvent;
use proto::events::v1::user_event::Event;
use proto::identity::v1::{
    AcceptInvitationRequest, AuditAction, CreateInvitationRequest, DeclineInvitationRequest,
    EraseUserRequest, ExportUserRequest, Invitation, ListAuditEventsRequest,
    ListInvitationsRequest, Member, RemoveMemberRequest, RevokeApiKeyRequest,
    RevokeInvitationRequest, UpdateMemberRequest,
};
use rpc::{Permissions, Principal};
use tonic::Status;

use super::harness::{Service, by, key_with, parent, reason, violation, with, workspace};
use super::people::{EMAIL, PASSWORD, Person, me, token_in};

fn to(email: &str, role: Role) -> Invitation {
    Invitation { email: email.to_owned(), role: role.into(), ..Invitation::default() }
}

async fn invite(
    service: &Service,
    caller: &Principal,
    invitation: Invitation,
) -> Result<Invitation, Status> {
    let message = CreateInvitationRequest {
        parent: parent(caller),
        invitation: Some(invitation),
        ..Default::default()
    };
    let created = service.invitations().create_invitation(by(caller, message)).await?;
    Ok(created.into_inner().invitation.unwrap())
}

/// Makes room for more mails to an address than one gets in a while.
async fn forget_attempts(service: &Service) {
    let database = service.database.open();
    sqlx::query("delete from identity.attempts").execute(database.primary()).await.unwrap();
}

async fn accept(service: &Service, person: &Person, token: &str) -> Result<Member, Status> {
    let message = AcceptInvitationRequest { token: token.to_owned(), ..Default::default() };
    let accepted = service.invitations().accept_invitation(person.asks(message)).await?;
    Ok(accepted.into_inner().member.unwrap())
}

async fn decline(service: &Service, person: &Person, token: &str) -> Result<(), Status> {
    let message = DeclineInvitationRequest { token: token.to_owned(), ..Default::default() };
    service.invitations().decline_invitation(person.asks(message)).await.map(drop)
}

async fn listed(service: &Service, caller: &Principal) -> Vec<Invitation> {
    let message = ListInvitationsRequest { parent: parent(caller), ..Default::default() };
    let list = service.invitations().list_invitations(by(caller, message)).await.unwrap();
    list.into_inner().invitations
}

async fn actions(service: &Service, caller: &Principal) -> Vec<AuditAction> {
    let message = ListAuditEventsRequest { parent: parent(caller), ..Default::default() };
    let events = service.audit().list_audit_events(by(caller, message)).await.unwrap();
    events.into_inner().audit_events.iter().map(|event| event.action()).collect()
}

/// The token of the newest mail to an address about an invitation.
async fn token_to(service: &Service, email: &str) -> String {
    let to = format!("To: {email}\r\n");
    let deadline = std::time::Instant::now() + super::harness::PATIENCE;
    loop {
        let mails = service.mails();
        let mut mails = mails.iter().filter(|mail| mail.contains(&to) && mail.contains("lmi_"));
        if let Some(mail) = mails.next_back() {
            return token_in(mail);
        }
        assert!(std::time::Instant::now() < deadline, "no invitation came to {email}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The token of the mail after the one with this token.
async fn token_behind(service: &Service, email: &str, token: &str) -> String {
    loop {
        let newer = token_to(service, email).await;
        if newer != token {
            return newer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn whoever_is_invited_accepts_once_and_is_a_member_from_then_on() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let ada = service.person(EMAIL).await;
    let invitation = invite(&service, &owner, to("ADA@example.com", Role::Member)).await.unwrap();
    assert_eq!((&*invitation.email, invitation.role()), ("ADA@example.com", Role::Member));
    assert_eq!(invitation.inviter, format!("users/{}", owner.user().unwrap()));
    let life = invitation.expire_time.unwrap().seconds - invitation.create_time.unwrap().seconds;
    assert_eq!(life, 7 * 24 * 60 * 60);
    assert_eq!(listed(&service, &owner).await, std::slice::from_ref(&invitation));

    let token = token_to(&service, "ADA@example.com").await;
    let rows = service.rows().await.to_lowercase();
    for secret in ["ada@example.com", &token] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!rows.contains(&secret.to_lowercase()) && !rows.contains(&hex), "{secret}");
    }
    let message = AcceptInvitationRequest {
        token: token.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let mut members = Vec::new();
    for _ in 0..2 {
        let asked = ada.asks(message.clone());
        let accepted = service.invitations().accept_invitation(asked).await.unwrap();
        members.push(accepted.into_inner().member.unwrap());
    }
    assert_eq!(members[0], members[1], "the second is the first one's answer");
    let user = ada.principal.user().unwrap();
    assert_eq!(members[0].name, format!("{}/members/{user}", parent(&owner)));
    assert_eq!(members[0].role(), Role::Member);
    assert_eq!(reason(accept(&service, &ada, &token).await), "TOKEN_INVALID");
    assert_eq!(listed(&service, &owner).await, []);

    let grants = service.refreshed(&ada.principal).await.grants;
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].workspace, workspace(&owner));
    let added = |events: &[UserEvent]| {
        events.iter().any(|event| {
            event.user_id == user.as_bytes() && matches!(event.event, Some(Event::MemberAdded(_)))
        })
    };
    service.announced(bus::topics::USER_EVENTS.name, added).await;
    let logged = actions(&service, &owner).await;
    assert_eq!(logged[..2], [AuditAction::MemberAdded, AuditAction::InvitationCreated]);
    service.stop().await;
}

#[tokio::test]
async fn nobody_invites_above_themselves_or_by_a_key_that_may_not() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let admin = service.member_of(workspace(&owner), Role::Admin).await;
    let member = service.member_of(workspace(&owner), Role::Member).await;
    let refused = invite(&service, &admin, to(EMAIL, Role::Owner)).await;
    assert_eq!(reason(refused), "ROLE_INSUFFICIENT");
    let refused = invite(&service, &member, to(EMAIL, Role::Viewer)).await;
    assert_eq!(reason(refused), "ROLE_INSUFFICIENT");
    let key = with(&service.owner().await, &[Scope::MembersWrite, Scope::LinksRead]);
    let refused = invite(&service, &key, to(EMAIL, Role::Viewer)).await;
    assert_eq!(reason(refused), "SCOPE_MISSING");
    for (field, invitation) in [
        ("invitation.email", to("nobody", Role::Viewer)),
        ("invitation.role", to(EMAIL, Role::Unspecified)),
    ] {
        assert_eq!(violation(invite(&service, &owner, invitation).await).0, field);
    }
    // What an owner offered an admin neither takes back nor replaces.
    let offered = invite(&service, &owner, to(EMAIL, Role::Owner)).await.unwrap();
    let revoke = RevokeInvitationRequest { name: offered.name, ..Default::default() };
    let refused = service.invitations().revoke_invitation(by(&admin, revoke)).await;
    assert_eq!(reason(refused), "ROLE_INSUFFICIENT");
    let refused = invite(&service, &admin, to(EMAIL, Role::Viewer)).await;
    assert_eq!(reason(refused), "ROLE_INSUFFICIENT");
    service.stop().await;
}

#[tokio::test]
async fn only_whoever_has_the_address_answers_and_declining_makes_nobody_a_member() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let (ada, grace) = (service.person(EMAIL).await, service.person("grace@example.com").await);
    invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    let token = token_to(&service, EMAIL).await;
    for answer in
        [accept(&service, &grace, &token).await.map(drop), decline(&service, &grace, &token).await]
    {
        assert_eq!(reason(answer), "STATE_CONFLICT");
    }
    for made_up in ["", "lmi_x", &token.replace("lmi_", "lmv_")] {
        assert_eq!(reason(accept(&service, &ada, made_up).await), "TOKEN_INVALID");
    }
    let by_key = AcceptInvitationRequest { token: token.clone(), ..Default::default() };
    let by_key = by(&service.owner().await, by_key);
    let refused = service.invitations().accept_invitation(by_key).await;
    assert_eq!(reason(refused), "USER_REQUIRED");
    decline(&service, &ada, &token).await.unwrap();
    assert_eq!(reason(accept(&service, &ada, &token).await), "TOKEN_INVALID");
    assert_eq!(service.grants(ada.principal.user().unwrap()).await.grants, []);
    assert_eq!(actions(&service, &owner).await[0], AuditAction::InvitationDeclined);
    service.stop().await;
}

#[tokio::test]
async fn what_is_taken_back_replaced_expired_or_from_somebody_who_left_is_worth_nothing() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let admin = service.member_of(workspace(&owner), Role::Admin).await;
    let ada = service.person(EMAIL).await;

    let first = invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    let token = token_to(&service, EMAIL).await;
    let second = invite(&service, &admin, to(EMAIL, Role::Member)).await.unwrap();
    assert_ne!(first.name, second.name);
    assert_eq!(listed(&service, &owner).await, std::slice::from_ref(&second));
    assert_eq!(reason(accept(&service, &ada, &token).await), "TOKEN_INVALID", "replaced");

    let name = format!("{}/members/{}", parent(&owner), admin.user().unwrap());
    let remove = RemoveMemberRequest { name, ..Default::default() };
    service.members().remove_member(by(&owner, remove)).await.unwrap();
    let newer = token_behind(&service, EMAIL, &token).await;
    assert_eq!(reason(accept(&service, &ada, &newer).await), "TOKEN_INVALID", "shown out");

    let revoke = RevokeInvitationRequest {
        name: second.name.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    for _ in 0..2 {
        service.invitations().revoke_invitation(by(&owner, revoke.clone())).await.unwrap();
    }
    let again = RevokeInvitationRequest { name: second.name, ..Default::default() };
    let again = service.invitations().revoke_invitation(by(&owner, again)).await;
    assert_eq!(reason(again), "NOT_FOUND");
    let revoked = AuditAction::InvitationRevoked;
    assert_eq!(actions(&service, &owner).await.iter().filter(|one| **one == revoked).count(), 2);

    forget_attempts(&service).await;
    invite(&service, &owner, to(EMAIL, Role::Viewer)).await.unwrap();
    sqlx::query("update identity.invitations set expire_micros = 1")
        .execute(service.database.open().primary())
        .await
        .unwrap();
    assert_eq!(listed(&service, &owner).await, []);
    let late = token_to(&service, EMAIL).await;
    assert_eq!(reason(accept(&service, &ada, &late).await), "TOKEN_INVALID", "too late");
    service.stop().await;
}

#[tokio::test]
async fn open_invitations_are_bounded_and_one_request_sends_one_mail() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let message = CreateInvitationRequest {
        parent: parent(&owner),
        invitation: Some(to(EMAIL, Role::Viewer)),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let mut answers = Vec::new();
    for _ in 0..5 {
        let asked = by(&owner, message.clone());
        let answer = service.invitations().create_invitation(asked).await.unwrap();
        answers.push(answer.into_inner());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    token_to(&service, EMAIL).await;
    assert_eq!(service.mails().len(), 1);
    let other = CreateInvitationRequest {
        invitation: Some(to("grace@example.com", Role::Viewer)),
        ..message
    };
    let reused = service.invitations().create_invitation(by(&owner, other)).await;
    assert_eq!(reason(reused), "REQUEST_ID_REUSED");

    sqlx::query(
        "insert into identity.invitations
             (id, workspace_id, email_hash, email, role, create_micros, expire_micros)
         select gen_random_uuid(), workspace_id, decode(lpad(to_hex(n), 8, '0'), 'hex'), email, role,
             create_micros, expire_micros
         from identity.invitations, generate_series(1, 99) n",
    )
    .execute(service.database.open().primary())
    .await
    .unwrap();
    let full = invite(&service, &owner, to("grace@example.com", Role::Viewer)).await;
    assert_eq!(reason(full), "STATE_CONFLICT");
    // One that takes another's place adds none.
    invite(&service, &owner, to(EMAIL, Role::Member)).await.unwrap();
    service.stop().await;
}
