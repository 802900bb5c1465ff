//! Another Redis in the place of the one that was asked, or the same one as another than it was: slow, a replica, emptied.

use std::time::Duration;

use futures_util::FutureExt as _;
use proto::common::v1::Tier;
use redis::aio::MultiplexedConnection;
use stack::FaultProxy;
use stack::Faults;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::fleet::PATIENT;
use super::fleet::ask;
use super::fleet::caller;
use super::fleet::clock;
use super::fleet::is_live;
use super::fleet::let_in;
use super::fleet::limits;
use crate::limits::Limits;
use crate::limits::store;
use crate::limits::store::Store;

/// A caller's limit in a minute.
const LIMIT: usize = 100;

async fn connection(fleet: &Fleet) -> MultiplexedConnection {
    let client = redis::Client::open(fleet.redis.url()).expect("a URI");
    client.get_multiplexed_async_connection().await.expect("it is there")
}

async fn say(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async::<()>(connection).await.expect("it is done");
}

/// What takes longer than anybody waits is decided here, and waited for by the one who finds that out.
#[tokio::test]
async fn r51_a_redis_that_is_slow_is_waited_for_by_one_and_asked_again_when_it_is_fast() {
    let fleet = Fleet::start(1, "", PATIENT).await;
    let way = FaultProxy::start(format!("127.0.0.1:{}", fleet.redis.port())).await;
    let way = way.expect("a port");
    let wait_max = Duration::from_millis(250);
    let options = store::Options {
        uri: format!("redis://{}", way.address()),
        wait_max,
        keep_extra: Duration::from_secs(1),
    };
    let edge = limits("", Some(Store::open(options).expect("a URI")), &clock());
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    let (of_edge, until) = (edge.clone(), stop.clone());
    running.spawn(async move { of_edge.0.store.as_ref().expect("it has one").run(&until).await });
    until_live(&edge).await;
    way.set(Faults { delay: 2 * wait_max, ..Faults::NONE });
    let caller = caller(Tier::Free);
    assert_eq!(ask(&edge, &caller, "links").await, Ok(()));
    assert!(!is_live(&edge));
    for _ in 1..LIMIT {
        let decided = ask(&edge, &caller, "links").now_or_never();
        assert_eq!(decided, Some(Ok(())), "nobody else waits");
    }
    assert_eq!(ask(&edge, &caller, "links").now_or_never(), Some(Err("free".to_owned())));
    way.heal();
    until_live(&edge).await;
    stop.cancel();
}

async fn until_live(edge: &Limits) {
    let polling = async {
        while !is_live(edge) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENT * 6, polling).await.expect("in time");
}

/// One that was made a replica answers to everything but what decides.
#[tokio::test]
async fn r51_a_redis_that_only_reads_is_away_until_it_writes_again() {
    let fleet = Fleet::start(2, "", PATIENT).await;
    let mut connection = connection(&fleet).await;
    let known = caller(Tier::Free);
    assert_eq!(let_in(&fleet.edges[0], &known, "links", 150).await, LIMIT);
    say(&mut connection, &["REPLICAOF", "127.0.0.1", "1"]).await;
    for edge in &fleet.edges {
        assert_eq!(ask(edge, &caller(Tier::Enterprise), "links").await, Ok(()), "it is answered");
        assert!(!is_live(edge));
        let store = edge.0.store.as_ref().expect("it has one");
        assert!(store.connect().await.is_err(), "it can't be taken from");
    }
    assert_eq!(let_in(&fleet.edges[0], &known, "links", 10).await, 0, "what is known counts");
    say(&mut connection, &["REPLICAOF", "NO", "ONE"]).await;
    fleet.until_live().await;
    assert_eq!(let_in(&fleet.edges[1], &known, "links", 10).await, 0, "and by its own word too");
}

/// What was in it is let in again, once; its scripts are loaded again without a failure.
#[tokio::test]
async fn r51_a_redis_that_is_replaced_by_an_empty_one_is_worth_one_burst_more() {
    let fleet = Fleet::start(3, "", PATIENT).await;
    let caller = caller(Tier::Free);
    let all = async || {
        let mut sum = 0;
        for edge in &fleet.edges {
            sum += let_in(edge, &caller, "links", 150).await;
        }
        sum
    };
    assert_eq!(all().await, LIMIT);
    let mut connection = connection(&fleet).await;
    say(&mut connection, &["FLUSHALL"]).await;
    say(&mut connection, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(all().await, LIMIT);
    assert_eq!(all().await, 0);
    assert!(fleet.edges.iter().all(is_live), "nobody went by themselves for it");
}

#[tokio::test]
async fn a_clock_of_redis_that_leaps_ahead_is_worth_one_burst_more() {
    let fleet = Fleet::start(1, "", PATIENT).await;
    let (edge, caller) = (&fleet.edges[0], caller(Tier::Free));
    assert_eq!(let_in(edge, &caller, "links", 150).await, LIMIT);
    fleet.pass(Duration::from_hours(1_000));
    assert_eq!(let_in(edge, &caller, "links", 350).await, LIMIT);
    fleet.step_back(Duration::from_hours(1_000));
    assert_eq!(let_in(edge, &caller, "links", 350).await, 0);
    fleet.pass(Duration::from_mins(1));
    assert_eq!(let_in(edge, &caller, "links", 350).await, LIMIT);
}

/// Whoever asks at the end of one minute and the beginning of the next has no more than whoever asks at any other time.
#[tokio::test]
async fn r49_no_minute_has_an_edge() {
    let fleet = Fleet::start(2, "", PATIENT).await;
    let caller = caller(Tier::Free);
    fleet.pass(Duration::from_millis(59_900));
    assert_eq!(let_in(&fleet.edges[0], &caller, "links", 150).await, LIMIT);
    fleet.pass(Duration::from_millis(200));
    assert_eq!(let_in(&fleet.edges[1], &caller, "links", 150).await, 0);
    fleet.pass(Duration::from_secs(30));
    assert_eq!(let_in(&fleet.edges[0], &caller, "links", 150).await, LIMIT / 2);
}
