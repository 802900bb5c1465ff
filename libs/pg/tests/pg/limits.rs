//! Limits that the server enforces, and what is measured.

use std::time::{Duration, Instant};

use pg::Config;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use stack::TestDatabase;

#[tokio::test]
async fn every_connection_carries_the_limits() {
    let test = TestDatabase::empty().await.unwrap();
    let database = test.open();
    for (setting, wanted) in [
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ] {
        let (value,): (String,) = sqlx::query_as("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(database.primary())
            .await
            .unwrap();
        assert_eq!(value, wanted, "{setting}");
    }
}

#[tokio::test]
async fn queries_are_measured_by_name_and_connections_by_server() {
    let test = TestDatabase::empty().await.unwrap();
    let mut registry = Registry::default();
    let database = pg::Database::open(&test.config(), &mut registry).unwrap();
    let query = sqlx::query("SELECT 1").execute(database.primary());
    database.observe("get_one", query).await.unwrap();

    let scrape = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    let durations = scrape();
    let counted = r#"db_query_duration_seconds_count{query="get_one"} 1"#;
    assert!(durations.contains(counted), "{durations}");
    let transaction = database.primary().begin().await.unwrap();
    assert!(scrape().contains(r#"db_connections_active{server="primary"} 1"#));
    transaction.rollback().await.unwrap();
    // A connection goes back to its pool in the background.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !scrape().contains(r#"db_connections_active{server="primary"} 0"#) {
        assert!(Instant::now() < deadline, "{}", scrape());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_without_showing_the_password() {
    let refused = |config: Config| {
        pg::Database::open(&config, &mut Registry::default()).unwrap_err().to_string()
    };
    let good = "postgres://linkmesh:s3cret@127.0.0.1/linkmesh";
    let none = Config { connections_max: 0, ..Config::new(good) };
    assert!(refused(none).contains("connections_max must be 1 to 1000"));
    let not_postgres = refused(Config::new("postgres://linkmesh:s3cret@127.0.0.1:99999/x"));
    assert!(!not_postgres.contains("s3cret"), "{not_postgres}");
}
