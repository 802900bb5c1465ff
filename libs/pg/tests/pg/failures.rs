//! What real errors mean.

use pg::{Config, Database, Failure};
use prometheus_client::registry::Registry;
use stack::TestDatabase;

async fn failure(database: &Database, statement: &'static str) -> Failure {
    let error = sqlx::raw_sql(statement).execute(database.primary()).await.unwrap_err();
    Failure::of(&error)
}

#[tokio::test]
async fn an_error_blames_the_data_only_if_the_data_are_to_blame() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    sqlx::raw_sql("CREATE TABLE t (a int CONSTRAINT one_a UNIQUE CHECK (a > 0))")
        .execute(database.primary())
        .await
        .unwrap();
    sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(database.primary()).await.unwrap();

    let unique = failure(&database, "INSERT INTO t VALUES (1)").await;
    assert_eq!(unique, Failure::UniqueViolation { constraint: "one_a".into() });
    let check = failure(&database, "INSERT INTO t VALUES (0)").await;
    assert_eq!(check, Failure::BadData { sqlstate: "23514".into() });
    let overflow = failure(&database, "INSERT INTO t VALUES (99999999999)").await;
    assert_eq!(overflow, Failure::BadData { sqlstate: "22003".into() });
    let no_such_table = failure(&database, "SELECT * FROM nowhere").await;
    assert_eq!(no_such_table, Failure::Other);
    let timeout = "SET statement_timeout = 1; SELECT pg_sleep(10)";
    assert_eq!(failure(&database, timeout).await, Failure::Unavailable);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_within_the_acquire_timeout() {
    let nobody = stack::port::free().unwrap();
    let config = Config::new(format!("postgres://linkmesh@127.0.0.1:{nobody}/linkmesh"));
    let database = Database::open(&config, &mut Registry::default()).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(failure(&database, "SELECT 1").await, Failure::Unavailable);
    assert!(started.elapsed() < pg::ACQUIRE_TIMEOUT * 2);
    assert!(!database.is_reachable().await);
}
