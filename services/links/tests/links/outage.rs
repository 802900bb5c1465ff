//! Postgres away: calls say so, nothing is lost, and the service goes on when it is back.

use stack::{Durability, Options, Postgres, TemporaryFolder};

use super::harness::{SHARED, Service, create, owner, reason, with_slug};

#[tokio::test]
async fn without_postgres_calls_fail_as_unavailable_and_changes_go_out_after_it_is_back() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("postgres")).unwrap();
    let postgres = Postgres::start(options, Durability::Throwaway).await.unwrap();
    let config = pg::Config::new(postgres.url());
    let database = pg::Database::open(&config, &mut Default::default()).unwrap();
    pg::migrate(&database, &links::MIGRATIONS, links::NAME).await.unwrap();

    let service = Service::start_on(config).await;
    let caller = owner();
    create(&service, &caller, with_slug("before")).await.unwrap();
    service.changes(|seen| seen.len() == 1).await;
    postgres.kill().await;
    assert_eq!(reason(create(&service, &caller, with_slug("during")).await), "STORE_UNAVAILABLE");
    postgres.restart().await.unwrap();
    // Connections of the pool that died with the server may fail once more, each.
    let deadline = std::time::Instant::now() + super::harness::PATIENCE;
    while let Err(status) = create(&service, &caller, with_slug("after")).await {
        assert!(std::time::Instant::now() < deadline, "{status:?}");
    }
    assert_eq!(service.resolve(SHARED, "during").await.version, 0);
    let announced = service.changes(|seen| seen.iter().any(|change| change.slug == "after")).await;
    assert!(announced.iter().all(|change| change.slug != "during"));
    service.stop().await;
}
