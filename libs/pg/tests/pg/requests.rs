//! Request ids on a real Postgres: one effect for each, whoever calls at the same time.

use pg::Database;
use pg::requests::{Claim, Request, Requests};
use stack::TestDatabase;
use uuid::Uuid;

const TABLE: &str = "create schema probe; create table probe.requests (
    workspace_id uuid not null, request_id uuid not null, fingerprint bytea not null, response bytea,
    create_micros bigint not null, primary key (workspace_id, request_id))";

async fn table() -> (TestDatabase, Database, Requests) {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    sqlx::raw_sql(TABLE).execute(database.primary()).await.unwrap();
    (test, database, Requests::of("probe"))
}

async fn once(
    database: &Database,
    requests: &Requests,
    request: &Request<'_>,
    now_micros: i64,
) -> Claim {
    let mut transaction = database.primary().begin().await.unwrap();
    let claim = requests.claim(&mut transaction, request, now_micros).await.unwrap();
    if claim == Claim::Fresh {
        requests.complete(&mut transaction, request, b"response").await.unwrap();
        transaction.commit().await.unwrap();
    }
    claim
}

#[tokio::test]
async fn an_id_is_fresh_once_then_replayed_and_refused_for_another_request() {
    let (_test, database, requests) = table().await;
    let (workspace, id) = (Uuid::now_v7(), Uuid::now_v7());
    let request = Request { workspace, id, fingerprint: &[1; 32] };
    assert_eq!(once(&database, &requests, &request, 1).await, Claim::Fresh);
    assert_eq!(once(&database, &requests, &request, 2).await, Claim::Replay(b"response".to_vec()));
    let other = Request { fingerprint: &[2; 32], ..request };
    assert_eq!(once(&database, &requests, &other, 3).await, Claim::Reused);
    let elsewhere = Request { workspace: Uuid::now_v7(), ..other };
    assert_eq!(once(&database, &requests, &elsewhere, 4).await, Claim::Fresh);
}

#[tokio::test]
async fn a_claim_that_was_rolled_back_never_was() {
    let (_test, database, requests) = table().await;
    let request = Request { workspace: Uuid::nil(), id: Uuid::now_v7(), fingerprint: &[1; 32] };
    let mut transaction = database.primary().begin().await.unwrap();
    assert_eq!(requests.claim(&mut transaction, &request, 1).await.unwrap(), Claim::Fresh);
    transaction.rollback().await.unwrap();
    assert_eq!(once(&database, &requests, &request, 2).await, Claim::Fresh);
}

#[tokio::test]
async fn of_calls_at_the_same_time_one_has_the_effect_and_the_others_its_response() {
    let (_test, database, requests) = table().await;
    let request = Request { workspace: Uuid::nil(), id: Uuid::now_v7(), fingerprint: &[1; 32] };
    let one = || once(&database, &requests, &request, 1);
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    let claims = [a, b, c, d];
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::Fresh).count(), 1);
    let replays = claims.iter().filter(|claim| **claim == Claim::Replay(b"response".to_vec()));
    assert_eq!(replays.count(), 3);
}

#[tokio::test]
async fn ids_are_forgotten_when_they_are_old_enough() {
    let (_test, database, requests) = table().await;
    let request = |id| Request { workspace: Uuid::nil(), id, fingerprint: &[1; 32] };
    let (old, young) = (Uuid::now_v7(), Uuid::now_v7());
    once(&database, &requests, &request(old), 100).await;
    once(&database, &requests, &request(young), 200).await;
    assert_eq!(requests.purge(&database, 200).await.unwrap(), 1);
    assert_eq!(once(&database, &requests, &request(old), 300).await, Claim::Fresh);
    assert!(matches!(once(&database, &requests, &request(young), 300).await, Claim::Replay(_)));
}
