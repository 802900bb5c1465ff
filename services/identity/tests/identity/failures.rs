//! Proofs that failed: in the log of whose account was tried, and in nobody's answer.

use std::time::{Duration, Instant};

use proto::identity::v1::complete_sign_in_request::Factor;
use proto::identity::v1::{
    AuditAction, AuditEvent, CompleteSignInRequest, ListOwnAuditEventsRequest,
};

use super::harness::{PATIENCE, Service, reason};
use super::people::{EMAIL, PASSWORD, Person, challenge};

/// The failures in somebody's own log, as soon as there are as many.
async fn failures(service: &Service, person: &Person, count: usize) -> Vec<AuditEvent> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = person.asks(ListOwnAuditEventsRequest::default());
        let listed = service.audit().list_own_audit_events(list).await.unwrap().into_inner();
        let failed = AuditAction::UserSignInFailed;
        let events = listed.audit_events.into_iter().filter(|event| event.action() == failed);
        let events: Vec<AuditEvent> = events.collect();
        if events.len() >= count {
            return events;
        }
        assert!(Instant::now() < deadline, "what failed is not in the log: {events:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_code_are_in_the_log_of_whose_account_was_tried() {
    let service = Service::start().await;
    let (ada, grace) = (service.person(EMAIL).await, service.person("grace@example.com").await);
    service.enable_totp(&ada).await;
    let wrong = service.sign_in(EMAIL, "wrong horse battery").await;
    assert_eq!(reason(wrong), "SIGN_IN_REFUSED");
    let unknown = service.sign_in("nobody@example.com", PASSWORD).await;
    assert_eq!(reason(unknown), "SIGN_IN_REFUSED");
    let message = CompleteSignInRequest {
        challenge_token: challenge(service.sign_in(EMAIL, PASSWORD).await).challenge_token,
        factor: Some(Factor::TotpCode("000000".to_owned())),
        ..Default::default()
    };
    let wrong = service.sessions().complete_sign_in(message).await;
    assert_eq!(reason(wrong), "FACTOR_REFUSED");

    let logged = failures(&service, &ada, 2).await;
    let reasons: Vec<_> = logged.iter().map(|event| event.details["reason"].as_str()).collect();
    assert_eq!(reasons, ["factor", "password"], "newest first");
    let user = format!("users/{}", ada.principal.user().unwrap());
    assert!(logged.iter().all(|event| event.resource == user && event.actor.is_empty()));
    assert_eq!(failures(&service, &grace, 0).await, []);
    let metrics = service.metrics();
    let counted = |proof: &str, count: u64| {
        format!("user_proofs_failed_total{{service=\"identity\",proof=\"{proof}\"}} {count}\n")
    };
    assert!(metrics.contains(&counted("password", 2)), "{metrics}");
    assert!(metrics.contains(&counted("factor", 1)), "{metrics}");
    service.stop().await;
}

/// Were it written before the answer, an account that is there would take longer than one that is not.
#[tokio::test]
async fn an_answer_does_not_wait_for_the_log_and_what_waits_is_written_at_the_stop() {
    let service = Service::start().await;
    let ada = service.person(EMAIL).await;
    let user = ada.principal.user().unwrap().uuid();
    let database = service.database.open();
    let mut held = database.primary().begin().await.unwrap();
    sqlx::query("select 1 from identity.audit_heads where stream_id = $1 for update")
        .bind(user)
        .execute(&mut *held)
        .await
        .unwrap();
    let wrong = service.sign_in(EMAIL, "wrong horse battery").await;
    assert_eq!(reason(wrong), "SIGN_IN_REFUSED", "while nobody can write into the log");
    held.rollback().await.unwrap();
    let database = service.stop().await;
    let (written,): (i64,) =
        sqlx::query_as("select count(*) from identity.audit_events where stream_id = $1")
            .bind(user)
            .fetch_one(database.open().primary())
            .await
            .unwrap();
    // Registered, signed in, failed to.
    assert_eq!(written, 3);
}

#[tokio::test]
async fn whoever_registers_is_counted() {
    let registered =
        |count: u64| format!("user_registrations_total{{service=\"identity\"}} {count}\n");
    let service = Service::start().await;
    assert!(service.metrics().contains(&registered(0)), "{}", service.metrics());
    service.person(EMAIL).await;
    // Asked for, and not proved.
    service.users().sign_up(super::people::sign_up("grace@example.com")).await.unwrap();
    assert!(service.metrics().contains(&registered(1)), "{}", service.metrics());
    service.stop().await;
}
