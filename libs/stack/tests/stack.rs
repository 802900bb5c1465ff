//! The real servers, started, killed, frozen and started again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use stack::{
    Durability, Etcd, Kafka, Lifetime, Options, Postgres, PostgresReplica, Redis, TemporaryFolder,
    TestDatabase,
};

async fn count(url: &str, query: &'static str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let (count,): (i64,) = sqlx::query_as(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count)
}

async fn execute(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn postgres_keeps_its_data_and_port_through_a_kill() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("postgres")).unwrap();
    let postgres = Postgres::start(options, Durability::Throwaway).await.unwrap();
    let url = postgres.url();
    execute(&url, "CREATE TABLE kept (); INSERT INTO kept DEFAULT VALUES").await;

    postgres.kill().await;
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(count(&url, "SELECT count(*) FROM kept").await.unwrap(), 1);
}

#[tokio::test]
async fn postgres_refuses_whoever_lacks_its_password() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("postgres")).unwrap();
    let postgres = Postgres::start(options, Durability::Throwaway).await.unwrap();
    let port = postgres.port();
    for userinfo in ["linkmesh", "linkmesh:guess", "postgres"] {
        let url = format!("postgres://{userinfo}@127.0.0.1:{port}/linkmesh");
        assert!(PgConnection::connect(&url).await.is_err(), "{userinfo}");
    }
}

#[tokio::test]
async fn a_replica_follows_its_primary_also_after_both_were_killed() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("primary")).unwrap();
    let primary = Postgres::start(options, Durability::Throwaway).await.unwrap();
    execute(&primary.url(), "CREATE TABLE t (); INSERT INTO t DEFAULT VALUES").await;
    let options = Options::bound(folder.path().join("replica")).unwrap();
    let replica = PostgresReplica::start(&primary, options).await.unwrap();
    let url = replica.url();
    let rows =
        async |wanted| count(&url, "SELECT count(*) FROM t").await.is_ok_and(|n| n == wanted);
    eventually("the first row", || rows(1)).await;

    primary.kill().await;
    replica.kill().await;
    primary.restart().await.unwrap();
    replica.restart().await.unwrap();
    execute(&primary.url(), "INSERT INTO t DEFAULT VALUES").await;
    eventually("the second row", || rows(2)).await;
}

#[tokio::test]
async fn etcd_is_healthy_when_started_and_keeps_its_port_through_a_kill() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = Etcd::start(Options::bound(folder.path().join("etcd")).unwrap()).await.unwrap();
    let address = etcd.url();
    etcd.kill().await;
    assert!(etcd.process().await.is_none());
    etcd.restart().await.unwrap();
    assert_eq!(etcd.url(), address);
}

#[tokio::test]
async fn a_frozen_server_is_silent_until_it_is_thawed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let folder = TemporaryFolder::new().unwrap();
    let redis = Redis::start(Options::bound(folder.path().join("redis")).unwrap()).await.unwrap();
    redis.freeze().await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port())).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    let silence = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
    assert!(silence.is_err(), "a frozen server answered");
    redis.thaw().await;
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn kafka_serves_when_started_and_again_after_a_kill() {
    let folder = TemporaryFolder::new().unwrap();
    let kafka = Kafka::start(Options::bound(folder.path().join("kafka")).unwrap()).await.unwrap();
    let before = kafka.process().await.unwrap();
    kafka.kill().await;
    assert!(!before.is_running());
    kafka.restart().await.unwrap();
    assert_ne!(kafka.process().await.unwrap(), before);
}

#[tokio::test]
async fn a_server_whose_port_is_taken_says_so_with_its_last_words() {
    let folder = TemporaryFolder::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options { folder: folder.path().join("redis"), port, lifetime: Lifetime::Bound };
    let error = format!("{:#}", Redis::start(options).await.unwrap_err());
    assert!(error.contains("redis ended") && error.contains("in use"), "{error}");
}

#[tokio::test]
async fn a_bound_server_and_its_folder_go_with_their_owner() {
    let folder = TemporaryFolder::new().unwrap();
    let redis = Redis::start(Options::bound(folder.path().join("redis")).unwrap()).await.unwrap();
    let process = redis.process().await.unwrap();
    let path = folder.path().to_owned();
    drop(redis);
    drop(folder);
    assert!(!process.is_running());
    assert!(!path.exists());
}

#[tokio::test]
async fn databases_of_two_tests_share_nothing() {
    let (one, two) = tokio::join!(TestDatabase::empty(), TestDatabase::empty());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.url(), two.url());
    execute(one.url(), "CREATE TABLE mine ()").await;
    assert!(count(two.url(), "SELECT count(*) FROM mine").await.is_err());
}
