//! While Redis is there: one set of buckets for all edges, taken from as a whole.

use std::net::IpAddr;
use std::time::Duration;

use mesh::gcra::Bucket;
use mesh::gcra::Gcra;
use proto::common::v1::Tier;
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::fleet::NOON_MICROS;
use super::fleet::PATIENT;
use super::fleet::ask;
use super::fleet::caller;
use super::fleet::clock;
use super::fleet::let_in;
use super::fleet::limits;
use crate::proved::Proved;

const MINUTE: Duration = Duration::from_mins(1);
const SERVICE: &str = "[services.identity]\nminute = 10\nhour = 20\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r50_of_requests_at_once_through_all_edges_exactly_the_limit_is_let_in() {
    let fleet = Fleet::start(4, "", PATIENT).await;
    let caller = caller(Tier::Free);
    let mut asking = JoinSet::new();
    for number in 0..400 {
        let (edge, caller) = (fleet.edges[number % 4].clone(), caller.clone());
        asking.spawn(async move { ask(&edge, &caller, "links").await.is_ok() });
    }
    let let_in = asking.join_all().await.into_iter().filter(|is_let_in| *is_let_in).count();
    assert_eq!(let_in, 100);
}

/// What edges take in advance for a caller comes out of its limit, and what one of them holds is all that the others lack.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r50_of_a_larger_limit_not_one_more_is_let_in_and_hardly_fewer() {
    let fleet = Fleet::start(4, "", PATIENT).await;
    let caller = caller(Tier::Premium);
    let mut asking = JoinSet::new();
    for edge in &fleet.edges {
        let (edge, caller) = (edge.clone(), caller.clone());
        asking.spawn(async move { let_in(&edge, &caller, "links", 400).await });
    }
    let sum: usize = asking.join_all().await.into_iter().sum();
    let held_max = 3 * (1_000 / 64 / 4);
    assert!((1_000 - held_max..=1_000).contains(&sum), "{sum}");
    fleet.pass(MINUTE);
    // What was held is due no more, and counts for nothing.
    assert_eq!(let_in(&fleet.edges[0], &caller, "links", 1_100).await, 1_000);
}

#[tokio::test]
async fn r49_redis_decides_as_the_arithmetic_does_whichever_edge_asks() {
    let fleet = Fleet::start(3, "", PATIENT).await;
    let (caller, bucket) = (caller(Tier::Free), Bucket::default());
    let exact = Gcra::new(100, MINUTE, 100);
    let mut random = 7_u64;
    let (mut let_in, mut refused) = (0, 0);
    for step in 0..1_500 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        fleet.pass(Duration::from_micros((random >> 33) % 500_000));
        let taken = exact.take(&bucket, fleet.now(), 1);
        let verdict = fleet.edges[step % 3].caller(&caller, "links").await;
        let decided = verdict.check().map_err(|error| error.retry_after.expect("a wait"));
        assert_eq!(decided, taken, "step {step}");
        *if taken.is_ok() { &mut let_in } else { &mut refused } += 1;
    }
    assert!(let_in > 500 && refused > 100, "both happen: {let_in}, {refused}");
}

/// The same by Redis and by an edge alone.
#[tokio::test]
async fn the_strictest_limit_decides_and_a_refusal_costs_nothing_at_the_others() {
    let fleet = Fleet::start(1, SERVICE, PATIENT).await;
    let alone = limits(SERVICE, None, &clock());
    for edge in [&fleet.edges[0], &alone] {
        let caller = caller(Tier::Free);
        assert_eq!(let_in(edge, &caller, "identity", 15).await, 10);
        assert_eq!(ask(edge, &caller, "identity").await, Err("identity-minute".to_owned()));
        assert_eq!(let_in(edge, &caller, "links", 100).await, 90);
        assert_eq!(ask(edge, &caller, "links").await, Err("free".to_owned()));
    }
    let caller = caller(Tier::Premium);
    for _ in 0..2 {
        assert_eq!(let_in(&fleet.edges[0], &caller, "identity", 15).await, 10);
        fleet.pass(MINUTE);
    }
    let refused = ask(&fleet.edges[0], &caller, "identity").await;
    assert_eq!(refused, Err("identity-hour".to_owned()));
}

#[tokio::test]
async fn callers_have_limits_of_their_own_and_keep_what_is_used_up_when_their_tier_changes() {
    let fleet = Fleet::start(2, "", PATIENT).await;
    let (one, other) = (caller(Tier::Free), caller(Tier::Premium));
    assert_eq!(let_in(&fleet.edges[0], &one, "links", 150).await, 100);
    assert_eq!(let_in(&fleet.edges[1], &other, "links", 500).await, 500);
    let upgraded = Proved { tier: Tier::Premium, ..one };
    assert_eq!(let_in(&fleet.edges[1], &upgraded, "links", 10).await, 0);
    fleet.pass(Duration::from_secs(6));
    assert_eq!(let_in(&fleet.edges[1], &upgraded, "links", 150).await, 100);
}

#[tokio::test]
async fn a_clock_of_redis_that_goes_back_locks_nobody_out() {
    let fleet = Fleet::start(1, "", PATIENT).await;
    let caller = caller(Tier::Free);
    assert_eq!(let_in(&fleet.edges[0], &caller, "links", 150).await, 100);
    fleet.step_back(Duration::from_hours(2));
    assert_eq!(ask(&fleet.edges[0], &caller, "links").await, Err("free".to_owned()));
    fleet.pass(Duration::from_millis(600));
    assert_eq!(let_in(&fleet.edges[0], &caller, "links", 5).await, 1);
}

#[tokio::test]
async fn r52_an_address_pays_for_what_is_not_proved_alone_and_redis_never_learns_it() {
    let fleet = Fleet::start(2, "", PATIENT).await;
    let address: IpAddr = "192.0.2.77".parse().expect("an address");
    for number in 0..300 {
        let edge = &fleet.edges[number % 2];
        let (verdict, charge) = edge.address(address, None, NOON_MICROS).await;
        assert_eq!(verdict.check(), Ok(()), "{number}");
        edge.give_back(charge).await;
    }
    let mut let_in = 0;
    for number in 0..150 {
        let (verdict, _) = fleet.edges[number % 2].address(address, None, NOON_MICROS).await;
        let_in += usize::from(verdict.check().is_ok());
    }
    assert_eq!(let_in, 100);
    let mapped: IpAddr = "::ffff:192.0.2.77".parse().expect("an address");
    let (verdict, _) = fleet.edges[0].address(mapped, None, NOON_MICROS).await;
    assert!(verdict.check().is_err(), "it is the same address");
    assert_eq!(ask(&fleet.edges[0], &caller(Tier::Free), "links").await, Ok(()));

    let client = redis::Client::open(fleet.redis.url()).expect("a URI");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it is there");
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("they are listed");
    assert_eq!(keys.iter().filter(|key| key.starts_with("limit:{a")).count(), 1, "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("192") || key.contains("c000024d")), "{keys:?}");
    let kept: Vec<i64> = {
        let mut kept = Vec::new();
        for key in &keys {
            let left = redis::cmd("PTTL").arg(key).query_async(&mut connection).await;
            kept.push(left.expect("it is there"));
        }
        kept
    };
    assert!(kept.iter().all(|left| *left > 0), "every bucket is forgotten in time: {kept:?}");
}
