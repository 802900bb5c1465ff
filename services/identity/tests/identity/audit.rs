//! The audit log: complete, in order, and worth believing.

use proto::common::v1::{Role, Scope};
use proto::identity::v1::{
    AuditAction, AuditEvent, BrokenAuditEvent, ListAuditEventsRequest, ListOwnAuditEventsRequest,
    Member, RevokeApiKeyRequest, UpdateMemberRequest, VerifyAuditEventsRequest,
};
use rpc::Principal;

use super::harness::{Service, by, key_with, parent, reason, workspace};

async fn events(service: &Service, caller: &Principal, page_size: i32) -> Vec<AuditEvent> {
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = ListAuditEventsRequest { parent: parent(caller), page_size, page_token };
        let page = service.audit().list_audit_events(by(caller, message)).await.unwrap();
        let page = page.into_inner();
        events.extend(page.audit_events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

async fn verify(service: &Service) -> (i64, Option<BrokenAuditEvent>) {
    let message = VerifyAuditEventsRequest::default();
    let answer = service.audit_as_operator().verify_audit_events(message).await.unwrap();
    let answer = answer.into_inner();
    (answer.verified_events, answer.broken)
}

/// Some acts in a workspace of its own.
async fn some_acts(service: &Service) -> Principal {
    let owner = service.signed_in_owner().await;
    let member = service.member_of(workspace(&owner), Role::Viewer).await;
    let key = service.create_key(&owner, key_with(&[Scope::LinksRead])).await.unwrap();
    let name = key.api_key.unwrap().name;
    let revoke = RevokeApiKeyRequest { name, ..Default::default() };
    service.api_keys().revoke_api_key(by(&owner, revoke)).await.unwrap();
    let name = format!("{}/members/{}", parent(&owner), member.user().unwrap());
    let member = Member { name, role: Role::Member.into(), ..Member::default() };
    let update = UpdateMemberRequest { member: Some(member), ..Default::default() };
    service.members().update_member(by(&owner, update)).await.unwrap();
    owner
}

#[tokio::test]
async fn what_was_done_is_listed_newest_first_with_who_did_it() {
    let service = Service::start().await;
    let owner = some_acts(&service).await;
    let listed = events(&service, &owner, 2).await;
    let actions: Vec<_> = listed.iter().map(AuditEvent::action).collect();
    let expected = [
        AuditAction::MemberRoleChanged,
        AuditAction::ApiKeyRevoked,
        AuditAction::ApiKeyCreated,
        AuditAction::MemberAdded,
        AuditAction::WorkspaceCreated,
    ];
    assert_eq!(actions, expected);
    let sequences: Vec<_> = listed.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [5, 4, 3, 2, 1]);
    let actor = format!("users/{}", owner.user().unwrap());
    assert!(listed.iter().all(|event| event.actor == actor && event.hash.len() == 32));
    let changed = &listed[0];
    assert_eq!(
        (&*changed.details["old_role"], &*changed.details["role"]),
        ("ROLE_VIEWER", "ROLE_MEMBER")
    );

    let member = service.member_of(workspace(&owner), Role::Member).await;
    let message = ListAuditEventsRequest { parent: parent(&owner), ..Default::default() };
    let refused = service.audit().list_audit_events(by(&member, message)).await;
    assert_eq!(reason(refused), "ROLE_INSUFFICIENT");
    let list = by(&member, ListOwnAuditEventsRequest::default());
    let own = service.audit().list_own_audit_events(list).await.unwrap().into_inner();
    assert_eq!(own.audit_events, []);
    service.stop().await;
}

#[tokio::test]
async fn what_failed_or_was_only_repeated_is_not_logged() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let before = events(&service, &owner, 0).await;
    let message =
        proto::identity::v1::LeaveWorkspaceRequest { name: parent(&owner), ..Default::default() };
    assert_eq!(
        reason(service.members().leave_workspace(by(&owner, message)).await),
        "STATE_CONFLICT"
    );
    assert_eq!(events(&service, &owner, 0).await, before);
    service.stop().await;
}

#[tokio::test]
async fn whatever_is_changed_left_out_or_cut_off_is_found() {
    let service = Service::start().await;
    let owner = some_acts(&service).await;
    let other = some_acts(&service).await;
    assert_eq!(verify(&service).await, (10, None));
    let database = service.database.open();
    let stream = workspace(&owner).uuid();
    for (tampering, repair, sequence) in [
        (
            "update identity.audit_events set event = event || '\\x00' where stream_id = $1 and sequence = 2",
            "update identity.audit_events set event = substr(event, 1, length(event) - 1)
             where stream_id = $1 and sequence = 2",
            2,
        ),
        (
            "update identity.audit_events set sequence = 30 where stream_id = $1 and sequence = 3",
            "update identity.audit_events set sequence = 3 where stream_id = $1 and sequence = 30",
            3,
        ),
        (
            "update identity.audit_events set stream_id = '00000000-0000-0000-0000-000000000001'
             where stream_id = $1 and sequence = 5",
            "update identity.audit_events set stream_id = $1
             where stream_id = '00000000-0000-0000-0000-000000000001'",
            5,
        ),
    ] {
        let run = async |statement: &'static str| {
            let done = sqlx::query(statement).bind(stream).execute(database.primary()).await;
            assert_eq!(done.unwrap().rows_affected(), 1);
        };
        run(tampering).await;
        let (_, broken) = verify(&service).await;
        assert_eq!(broken.expect(tampering).sequence, sequence, "{tampering}");
        run(repair).await;
        assert_eq!(verify(&service).await, (10, None));
    }
    sqlx::query("delete from identity.audit_events where stream_id = $1")
        .bind(stream)
        .execute(database.primary())
        .await
        .unwrap();
    let (_, broken) = verify(&service).await;
    let broken = broken.expect("a whole stream is missing");
    assert_eq!((&*broken.stream_id, broken.sequence), (&*stream.to_string(), 1));
    assert_eq!(events(&service, &other, 0).await.len(), 5);
    service.stop().await;
}

#[tokio::test]
async fn acts_at_the_same_time_are_all_in_the_chain() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let create = || service.create_key(&owner, key_with(&[Scope::LinksRead]));
    let made = tokio::join!(create(), create(), create(), create());
    assert!(made.0.is_ok() && made.1.is_ok() && made.2.is_ok() && made.3.is_ok());
    assert_eq!(verify(&service).await, (6, None));
    service.stop().await;
}
