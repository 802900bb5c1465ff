//! Whom a presented key stands for.

use std::time::{Duration, Instant};

use proto::common::v1::Scope;
use proto::identity::v1::ApiKey;

use super::harness::{PATIENCE, Service, key_with, reason};

#[tokio::test]
async fn what_is_no_key_or_has_a_wrong_secret_is_unknown_and_no_error() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let created = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    let last = created.secret.chars().last().unwrap();
    let mut wrong = created.secret.clone();
    wrong.pop();
    wrong.push(if last == '0' { '1' } else { '0' });
    let unknown = auth::ApiKey::generate().unwrap();
    for text in [&wrong, unknown.reveal(), "lmk_x_y", "Bearer x", "\0", &"x".repeat(10_000)] {
        let answer = service.authenticate(text).await;
        assert_eq!((answer.principal, answer.version), (None, 0), "{text}");
        assert!(answer.read_time.is_some());
    }
    assert!(service.authenticate(&created.secret).await.principal.is_some());
    let operator = service.authenticate_as_operator(&created.secret).await;
    assert_eq!(reason(operator), "PEER_NOT_ALLOWED");
    service.stop().await;
}

#[tokio::test]
async fn a_key_says_when_it_expires_and_then_stands_for_nobody() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let expiry = jiff::Timestamp::now() + Duration::from_millis(1_500);
    let expire_time = Some(rpc::time::to_proto(expiry));
    let key = ApiKey { expire_time, ..key_with(&[Scope::LinksRead]) };
    let created = service.create_key(&caller, key).await.unwrap();
    let alive = service.authenticate(&created.secret).await;
    assert!(alive.principal.is_some());
    assert_eq!(alive.expire_time, created.api_key.unwrap().expire_time);
    let deadline = Instant::now() + PATIENCE;
    while service.authenticate(&created.secret).await.principal.is_some() {
        assert!(Instant::now() < deadline, "the key did not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.authenticate(&created.secret).await.version > 0);
    service.stop().await;
}

#[tokio::test]
async fn the_last_use_is_written_to_the_minute_at_the_latest_when_the_service_stops() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let before = jiff::Timestamp::now().as_microsecond();
    let used = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    let unused = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    for _ in 0..3 {
        service.authenticate(&used.secret).await;
    }
    let database = service.stop().await.open();
    let last_use = async |created: &proto::identity::v1::CreateApiKeyResponse| {
        let (micros,): (Option<i64>,) =
            sqlx::query_as("select last_use_micros from identity.api_keys where prefix = $1")
                .bind(&created.api_key.as_ref().unwrap().prefix)
                .fetch_one(database.primary())
                .await
                .unwrap();
        micros
    };
    let micros = last_use(&used).await.expect("it was used");
    assert_eq!(micros % 60_000_000, 0);
    assert!(micros > before - 60_000_000);
    assert_eq!(last_use(&unused).await, None);
}
