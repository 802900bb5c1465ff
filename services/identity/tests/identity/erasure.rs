//! What is held on a person: taken along as a document, and erased.

use prost::Message as _;
use proto::events::v1::UserEvent;
use proto::events::v1::user_event::Event;
use proto::identity::v1::{EraseUserRequest, ExportUserRequest, GetUserRequest};

use super::harness::{Service, reason};
use super::people::{EMAIL, NAME, PASSWORD, me};

#[tokio::test]
async fn an_export_holds_what_is_held_and_no_secret() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    service.enable_totp(&person).await;
    let export = person.asks(ExportUserRequest { name: me() });
    let exported = service.users().export_user(export).await.unwrap().into_inner();
    assert_eq!(exported.content_type, "application/json");
    let document: serde_json::Value = serde_json::from_str(&exported.document).unwrap();
    assert_eq!(document["user"]["email"], EMAIL);
    assert_eq!(document["user"]["displayName"], NAME);
    assert_eq!(document["secondFactor"]["totpEnabled"], true);
    assert_eq!(document["secondFactor"]["recoveryCodesLeft"], 10);
    assert_eq!(document["sessions"][0]["name"], person.tokens.session);
    assert_eq!(document["sessions"][0]["label"], "Firefox on Linux");
    assert!(!exported.document.contains("argon2"));
    service.stop().await;
}

/// Whoever is invited everywhere gets a document all the same that has an end.
#[tokio::test]
async fn an_export_lists_a_thousand_invitations_at_most() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let database = service.database.open();
    sqlx::query(
        "insert into identity.workspaces (id, display_name, create_micros, update_micros, version)
         select gen_random_uuid(), 'Acme', 0, 0, 1 from generate_series(1, 1200)",
    )
    .execute(database.primary())
    .await
    .unwrap();
    sqlx::query(
        "insert into identity.invitations
             (id, workspace_id, email_hash, email, role, create_micros, expire_micros)
         select gen_random_uuid(), w.id, u.email_hash, '', 3, 0, 9e15
         from identity.workspaces w, identity.users u where u.id = $1",
    )
    .bind(person.principal.user().unwrap().uuid())
    .execute(database.primary())
    .await
    .unwrap();
    let export = person.asks(ExportUserRequest { name: me() });
    let exported = service.users().export_user(export).await.unwrap().into_inner();
    let document: serde_json::Value = serde_json::from_str(&exported.document).unwrap();
    assert_eq!(document["invitations"].as_array().unwrap().len(), 1_000);
    assert!(exported.document.len() < 1 << 20, "{} bytes", exported.document.len());
    service.stop().await;
}

#[tokio::test]
async fn an_erased_user_leaves_an_id_and_nothing_else_and_the_address_is_free() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    service.enable_totp(&person).await;
    let erase = |password: &str| EraseUserRequest {
        name: me(),
        password: password.to_owned(),
        ..Default::default()
    };
    let wrong = service.users().erase_user(person.asks(erase("wrong horse battery"))).await;
    assert_eq!(reason(wrong), "SIGN_IN_REFUSED");
    service.users().erase_user(person.asks(erase(PASSWORD))).await.unwrap();

    let get = person.asks(GetUserRequest { name: me() });
    assert_eq!(reason(service.users().get_user(get).await), "NOT_FOUND");
    assert_eq!(reason(service.sign_in(EMAIL, PASSWORD).await), "SIGN_IN_REFUSED");
    let database = service.database.open();
    for table in
        ["sessions", "user_tokens", "recovery_codes", "provider_links", "sign_ups", "mails"]
    {
        let count = format!("select count(*) from identity.{table}");
        let (count,): (i64,) =
            sqlx::query_as(sqlx::AssertSqlSafe(count)).fetch_one(database.primary()).await.unwrap();
        assert_eq!(count, 0, "{table}");
    }
    let (left,): (String,) = sqlx::query_as(
        "select to_jsonb(u)::text from identity.users u where erase_micros is not null",
    )
    .fetch_one(database.primary())
    .await
    .unwrap();
    let left: serde_json::Value = serde_json::from_str(&left).unwrap();
    for column in ["email_hash", "email", "display_name", "password", "totp_secret"] {
        assert!(left[column].is_null(), "{column}");
    }
    let events = service.on_topic(bus::topics::USER_EVENTS, 3).await;
    let last = UserEvent::decode(events.last().unwrap().value.clone()).unwrap();
    assert!(matches!(last.event, Some(Event::Erased(_))), "{last:?}");

    let anew = service.person(EMAIL).await;
    assert_ne!(anew.principal.user(), person.principal.user());
    service.stop().await;
}
