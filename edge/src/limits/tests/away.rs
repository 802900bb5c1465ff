//! While Redis is away: each edge at its share, at once.

use std::time::Duration;

use futures_util::FutureExt as _;
use proto::common::v1::Tier;

use super::fleet::Fleet;
use super::fleet::NOON_MICROS;
use super::fleet::PATIENT;
use super::fleet::ask;
use super::fleet::caller;
use super::fleet::clock;
use super::fleet::is_live;
use super::fleet::let_in;
use super::fleet::limits;
use crate::proved::Proved;

const TICK: Duration = Duration::from_millis(100);
const TICKS_OF_A_MINUTE: u32 = 600;

/// Has callers ask twice at each of their edges, ten times a second, for so many ticks; answers how often each was let in.
async fn insist<const N: usize>(
    fleet: &Fleet,
    callers: [(&Proved, &[usize]); N],
    ticks: u32,
) -> [usize; N] {
    let mut sums = [0; N];
    for _ in 0..ticks {
        for (sum, (caller, edges)) in sums.iter_mut().zip(&callers) {
            for edge in *edges {
                *sum += let_in(&fleet.edges[*edge], caller, "links", 2).await;
            }
        }
        fleet.pass(TICK);
    }
    sums
}

/// The first request that meets a dead connection finds that out; no other waits.
async fn until_noticed(fleet: &Fleet) {
    for edge in &fleet.edges {
        let stranger = caller(Tier::Enterprise);
        assert_eq!(ask(edge, &stranger, "links").await, Ok(()), "who meets it is answered too");
        assert!(!is_live(edge));
        for _ in 0..100 {
            let decided = ask(edge, &stranger, "links").now_or_never();
            assert_eq!(decided, Some(Ok(())), "decided without waiting for anything");
        }
    }
}

#[tokio::test]
async fn r51_when_redis_dies_a_caller_has_at_most_twice_the_limit_in_that_minute_and_then_the_limit()
 {
    let fleet = Fleet::start(3, "", PATIENT).await;
    let all = &[0, 1, 2][..];
    // One that asks everywhere, and one that meets other edges afterwards than before.
    let (steady, moving) = (caller(Tier::Free), caller(Tier::Free));
    let half = TICKS_OF_A_MINUTE / 2;
    insist(&fleet, [(&steady, all), (&moving, &[0][..])], TICKS_OF_A_MINUTE).await;

    let before = insist(&fleet, [(&steady, all), (&moving, &[0][..])], half).await;
    fleet.redis.kill().await;
    until_noticed(&fleet).await;
    let after = insist(&fleet, [(&steady, all), (&moving, &[1, 2][..])], half).await;
    let [steadily, movingly] = [0, 1].map(|which| before[which] + after[which]);
    assert!((90..=101).contains(&steadily), "what edges know they go on from: {steadily}");
    assert!((100..=200).contains(&movingly), "{movingly}");
    for _ in 0..3 {
        let callers = [(&steady, all), (&moving, &[1, 2][..])];
        let [steadily, movingly] = insist(&fleet, callers, TICKS_OF_A_MINUTE).await;
        assert!((95..=100).contains(&steadily), "{steadily}");
        assert!((60..=67).contains(&movingly), "the share of two of three: {movingly}");
    }

    // One that nobody met before: the burst once, and the rate.
    let new = caller(Tier::Free);
    let [first] = insist(&fleet, [(&new, all)], TICKS_OF_A_MINUTE).await;
    assert!((190..=200).contains(&first), "{first}");
    let [second] = insist(&fleet, [(&new, all)], TICKS_OF_A_MINUTE).await;
    assert!((95..=100).contains(&second), "{second}");

    fleet.redis.restart().await.expect("it starts again");
    fleet.until_live().await;
    let [back] = insist(&fleet, [(&new, all)], TICKS_OF_A_MINUTE).await;
    assert!(back <= 200, "{back}");
    let [later] = insist(&fleet, [(&new, all)], TICKS_OF_A_MINUTE).await;
    assert!((95..=100).contains(&later), "{later}");
}

#[tokio::test]
async fn r51_from_nothing_to_everything_in_the_minute_of_the_switch_is_twice_the_limit_too() {
    let fleet = Fleet::start(2, "", PATIENT).await;
    let caller = caller(Tier::Free);
    let half = TICKS_OF_A_MINUTE / 2;
    let [before] = insist(&fleet, [(&caller, &[0, 1])], half).await;
    fleet.redis.kill().await;
    until_noticed(&fleet).await;
    let [after] = insist(&fleet, [(&caller, &[0, 1])], half).await;
    assert!((145..=150).contains(&before) && before + after <= 200, "{before} + {after}");
}

#[tokio::test]
async fn r51_a_redis_that_hangs_is_waited_for_once_and_asked_again_when_it_answers() {
    let wait = Duration::from_millis(20);
    let fleet = Fleet::start(1, "", wait).await;
    fleet.redis.freeze().await;
    until_noticed(&fleet).await;
    fleet.redis.thaw().await;
    fleet.until_live().await;
}

#[tokio::test]
async fn r51_a_redis_that_comes_and_goes_is_worth_one_burst_more_and_not_one_each_time() {
    let fleet = Fleet::start(1, "", Duration::from_millis(250)).await;
    let (edge, caller) = (&fleet.edges[0], caller(Tier::Free));
    let mut alone = Vec::new();
    for _ in 0..4 {
        fleet.redis.freeze().await;
        until_noticed(&fleet).await;
        alone.push(let_in(edge, &caller, "links", 150).await);
        fleet.redis.thaw().await;
        fleet.until_live().await;
        // Redis knows nothing of those, and says so to this edge.
        assert_eq!(ask(edge, &caller, "links").await, Ok(()));
    }
    assert_eq!(alone, [100, 0, 0, 0]);
}

/// An address's charge is given back where it was taken, and what it was there.
#[tokio::test]
async fn r51_what_redis_took_is_not_given_back_here_nor_the_other_way_round() {
    let address = "192.0.2.7".parse().expect("an address");
    let fleet = Fleet::start(1, "", Duration::from_millis(250)).await;
    let edge = &fleet.edges[0];
    let charge = async || edge.address(address, None, NOON_MICROS).await;
    let (_, in_redis) = charge().await;
    fleet.redis.freeze().await;
    until_noticed(&fleet).await;
    let mut here = Vec::new();
    for _ in 0..150 {
        let (verdict, charge) = charge().await;
        here.extend(verdict.check().is_ok().then_some(charge));
    }
    assert_eq!(here.len(), 99, "what Redis said of it counts");
    edge.give_back(in_redis).await;
    assert!(charge().await.0.check().is_err(), "it was not taken here");
    edge.set_edges(4);
    edge.give_back(here.pop().expect("one")).await;
    edge.set_edges(1);
    assert_eq!(charge().await.0.check(), Ok(()));
    assert!(charge().await.0.check().is_err(), "one was given back, and at the share of then");
}

#[tokio::test]
async fn r51_a_redis_that_answers_and_can_not_decide_is_away() {
    let fleet = Fleet::start(1, "", PATIENT).await;
    let client = redis::Client::open(fleet.redis.url()).expect("a URI");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it is there");
    let mut memory = async |bytes: u64| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes).arg("maxmemory-policy").arg("noeviction");
        set.query_async::<()>(&mut connection).await.expect("it is set");
    };
    memory(1).await;
    until_noticed(&fleet).await;
    let store = fleet.edges[0].0.store.as_ref().expect("it has one");
    assert!(store.connect().await.is_err(), "it is full");
    assert!(!is_live(&fleet.edges[0]));
    memory(0).await;
    fleet.until_live().await;
}

#[tokio::test]
async fn r51_with_more_edges_than_requests_each_lets_one_in_and_keeps_the_rate() {
    let clock = clock();
    let caller = caller(Tier::Free);
    let edge = limits("", None, &clock);
    edge.set_edges(300);
    assert_eq!(let_in(&edge, &caller, "links", 10).await, 1);
    clock.fetch_add(179_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(let_in(&edge, &caller, "links", 10).await, 0);
    clock.fetch_add(2_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(let_in(&edge, &caller, "links", 10).await, 1);
}

#[tokio::test]
async fn an_edge_without_redis_keeps_the_whole_limit_if_it_is_the_only_one() {
    let edge = limits("", None, &clock());
    let caller = caller(Tier::Premium);
    assert_eq!(let_in(&edge, &caller, "links", 1_500).await, 1_000);
}
