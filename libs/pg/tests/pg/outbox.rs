//! The outbox on a real Postgres: nothing is lost, one relay leads, order is kept.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pg::Database;
use pg::outbox::{Change, Outbox};
use prometheus_client::registry::Registry;
use stack::{Durability, Options, Postgres, TemporaryFolder, TestDatabase};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TABLE: &str = "create schema probe; create table probe.outbox (
    seq bigint generated always as identity primary key, topic text not null, key bytea not null,
    value bytea not null)";
/// Longer than any of it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

type Published = Arc<Mutex<Vec<(&'static str, u64)>>>;

async fn with_table(database: Database) -> Database {
    sqlx::raw_sql(TABLE).execute(database.primary()).await.unwrap();
    database
}

async fn commit(database: &Database, outbox: &Outbox, numbers: std::ops::Range<u64>) {
    let change = |n: u64| Change {
        topic: "numbers".into(),
        key: b"k".to_vec(),
        value: n.to_be_bytes().to_vec(),
    };
    let mut transaction = database.primary().begin().await.unwrap();
    outbox.append(&mut transaction, numbers.map(change).collect()).await.unwrap();
    transaction.commit().await.unwrap();
    outbox.committed();
}

struct Relay {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Relay {
    #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
    fn start(
        name: &'static str,
        database: &Database,
        outbox: &Outbox,
        published: &Published,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (database, outbox, published) = (database.clone(), outbox.clone(), published.clone());
        let task = tokio::spawn(async move {
            let publish = |changes: Vec<Change>| {
                let published = published.clone();
                async move {
                    let number = |change: Change| {
                        assert_eq!(change.topic, "numbers");
                        u64::from_be_bytes(change.value.try_into().unwrap())
                    };
                    published
                        .lock()
                        .unwrap()
                        .extend(changes.into_iter().map(|c| (name, number(c))));
                    anyhow::Ok(())
                }
            };
            let stop = async { drop(stopped.await) };
            outbox.relay(database, stop, publish).await;
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn numbers(published: &Published) -> Vec<u64> {
    published.lock().unwrap().iter().map(|(_, number)| *number).collect()
}

#[tokio::test]
async fn changes_go_out_once_in_order_and_leave_the_table_empty() {
    let test = TestDatabase::empty().await.unwrap();
    let database = with_table(test.open()).await;
    let (outbox, published) = (Outbox::of("probe"), Published::default());
    commit(&database, &outbox, 0..2_500).await;
    let relay = Relay::start("a", &database, &outbox, &published);
    commit(&database, &outbox, 2_500..2_510).await;
    until("all published", || numbers(&published).len() >= 2_510).await;
    assert_eq!(numbers(&published), (0..2_510).collect::<Vec<_>>());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (rows,): (i64,) = sqlx::query_as("select count(*) from probe.outbox")
            .fetch_one(database.primary())
            .await
            .unwrap();
        if rows == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{rows} rows are left");
    }
    relay.stop().await;
}

#[tokio::test]
async fn one_relay_leads_and_the_other_takes_over_when_it_goes() {
    let test = TestDatabase::empty().await.unwrap();
    let database = with_table(test.open()).await;
    let published = Published::default();
    // Two processes: each has an outbox handle, and so a wake-up, of its own.
    let (first, second) = (Outbox::of("probe"), Outbox::of("probe"));
    commit(&database, &first, 0..1).await;
    let leader = Relay::start("leader", &database, &first, &published);
    until("the first leads", || numbers(&published).len() == 1).await;
    let other = Relay::start("other", &database, &second, &published);
    for number in 1..20 {
        let from = if number % 2 == 0 { &first } else { &second };
        commit(&database, from, number..number + 1).await;
    }
    until("all published", || numbers(&published).len() == 20).await;
    assert!(published.lock().unwrap().iter().all(|(name, _)| *name == "leader"));

    leader.stop().await;
    commit(&database, &second, 20..21).await;
    until("the other took over", || numbers(&published).len() >= 21).await;
    assert_eq!(numbers(&published), (0..21).collect::<Vec<_>>());
    assert_eq!(published.lock().unwrap().last(), Some(&("other", 20)));
    other.stop().await;
}

#[tokio::test]
async fn what_could_not_be_published_is_tried_again() {
    let test = TestDatabase::empty().await.unwrap();
    let database = with_table(test.open()).await;
    let outbox = Outbox::of("probe");
    commit(&database, &outbox, 0..3).await;
    let attempts = Mutex::new(0);
    let (done, is_done) = oneshot::channel();
    let done = Mutex::new(Some(done));
    let publish = |changes: Vec<Change>| {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        let refused = *attempts < 3;
        if !refused && let Some(done) = done.lock().unwrap().take() {
            done.send(changes.len()).unwrap();
        }
        async move { if refused { Err(anyhow::anyhow!("the bus is away")) } else { Ok(()) } }
    };
    let stop = async { assert_eq!(is_done.await, Ok(3)) };
    tokio::time::timeout(PATIENCE, outbox.relay(database, stop, publish)).await.unwrap();
}

#[tokio::test]
async fn a_restart_of_postgres_loses_no_change() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("postgres")).unwrap();
    let postgres = Postgres::start(options, Durability::Throwaway).await.unwrap();
    let config = pg::Config::new(postgres.url());
    let database = Database::open(&config, &mut Registry::default()).unwrap();
    let database = with_table(database).await;
    let (outbox, published) = (Outbox::of("probe"), Published::default());
    let relay = Relay::start("a", &database, &outbox, &published);
    commit(&database, &outbox, 0..10).await;
    until("published before the crash", || numbers(&published).len() == 10).await;
    postgres.kill().await;
    postgres.restart().await.unwrap();
    commit(&database, &outbox, 10..20).await;
    until("published after the crash", || numbers(&published).last() == Some(&19)).await;
    // The deletion of the first ten may have been lost with the crash: then they went out twice, in order.
    let seen = numbers(&published);
    assert!((0..20).all(|number| seen.contains(&number)), "{seen:?}");
    relay.stop().await;
}
