//! Which server answers a read.

use std::time::{Duration, Instant};

use pg::{Config, Consistency, Database, Lsn};
use prometheus_client::registry::Registry;
use stack::{Durability, Options, Postgres, PostgresReplica, TemporaryFolder};

struct Pair {
    primary: Postgres,
    replica: PostgresReplica,
    database: Database,
    _folder: TemporaryFolder,
}

impl Pair {
    async fn start() -> Self {
        let folder = TemporaryFolder::new().unwrap();
        let options = Options::bound(folder.path().join("primary")).unwrap();
        let primary = Postgres::start(options, Durability::Throwaway).await.unwrap();
        let options = Options::bound(folder.path().join("replica")).unwrap();
        let replica = PostgresReplica::start(&primary, options).await.unwrap();
        let config = Config { replicas: vec![replica.url()], ..Config::new(primary.url()) };
        let database = Database::open(&config, &mut Registry::default()).unwrap();
        Self { primary, replica, database, _folder: folder }
    }

    async fn port_of_reader(&self, consistency: Consistency) -> u16 {
        self.database.reader(&consistency).await.connect_options().get_port()
    }

    async fn goes_to(&self, port: u16, consistency: Consistency) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.port_of_reader(consistency).await != port {
            assert!(Instant::now() < deadline, "{consistency:?} never went to {port}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn write(&self) -> Lsn {
        let statement = "CREATE TABLE IF NOT EXISTS t (); INSERT INTO t DEFAULT VALUES";
        sqlx::raw_sql(statement).execute(self.database.primary()).await.unwrap();
        self.database.token().await.unwrap()
    }

    async fn replay(&self, statement: &'static str) {
        let mut connection = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .connect(&self.replica.url())
            .await
            .unwrap()
            .acquire()
            .await
            .unwrap();
        sqlx::raw_sql(statement).execute(&mut *connection).await.unwrap();
    }
}

const RELAXED: Consistency = Consistency::MaxStaleness(Duration::from_secs(60));

#[tokio::test]
async fn only_a_caller_who_accepts_staleness_reads_from_a_replica() {
    let pair = Pair::start().await;
    assert_eq!(pair.port_of_reader(Consistency::default()).await, pair.primary.port());
    pair.goes_to(pair.replica.port(), RELAXED).await;
    let zero = Consistency::MaxStaleness(Duration::ZERO);
    assert_eq!(pair.port_of_reader(zero).await, pair.primary.port());
}

#[tokio::test]
async fn a_token_is_honoured_by_a_replica_once_it_has_replayed_it() {
    let pair = Pair::start().await;
    let token = pair.write().await;
    pair.goes_to(pair.replica.port(), Consistency::AtLeast(token)).await;

    pair.replay("SELECT pg_wal_replay_pause()").await;
    let newer = pair.write().await;
    assert!(newer > token);
    assert_eq!(pair.port_of_reader(Consistency::AtLeast(newer)).await, pair.primary.port());
    assert_eq!(pair.port_of_reader(Consistency::AtLeast(token)).await, pair.replica.port());
    pair.replay("SELECT pg_wal_replay_resume()").await;
    pair.goes_to(pair.replica.port(), Consistency::AtLeast(newer)).await;
}

#[tokio::test]
async fn a_replica_that_falls_behind_loses_its_readers_by_and_by() {
    let pair = Pair::start().await;
    pair.write().await;
    pair.goes_to(pair.replica.port(), RELAXED).await;
    pair.replay("SELECT pg_wal_replay_pause()").await;
    pair.write().await;
    let strict = Consistency::MaxStaleness(Duration::from_millis(500));
    pair.goes_to(pair.primary.port(), strict).await;
    assert_eq!(pair.port_of_reader(RELAXED).await, pair.replica.port());
}

#[tokio::test]
async fn a_dead_replica_is_left_alone_and_found_again() {
    let pair = Pair::start().await;
    pair.goes_to(pair.replica.port(), RELAXED).await;
    pair.replica.kill().await;
    pair.goes_to(pair.primary.port(), RELAXED).await;
    let started = Instant::now();
    pair.port_of_reader(RELAXED).await;
    assert!(started.elapsed() < Duration::from_millis(100), "readers wait for a dead replica");
    pair.replica.restart().await.unwrap();
    pair.goes_to(pair.replica.port(), RELAXED).await;
}
