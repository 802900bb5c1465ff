//! Balancing as calls see it: whole endpoints and plans, without a network, in a time that the test tells.

mod near;

use super::super::bare::Bare;
use super::super::connection::Connection;
use super::super::connection::Stream;
use super::super::endpoint::Endpoint;
use super::super::flight::Flight;
use super::super::health::Verdict;
use super::super::routes::Picked;
use crate::policy::Algorithm;
use crate::policy::Policy;
use crate::registry::Registration;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Instances `a-0`, `a-1`… for each zone that is named.
fn registrations(zones: &[(&str, usize)]) -> Vec<Registration> {
    let registration = |zone: &str, at: usize| {
        let mut it = Registration::new(&format!("{zone}-{at}"), "links", "127.0.0.1:1", &[]);
        it.zone = zone.to_owned();
        it.region = "eu".to_owned();
        it
    };
    zones.iter().flat_map(|(zone, count)| (0..*count).map(|at| registration(zone, at))).collect()
}

fn policy(algorithm: Algorithm) -> Policy {
    let mut policy = Policy::default_of("links");
    policy.balancing.algorithm = algorithm;
    policy
}

fn bare(zones: &[(&str, usize)], now: Instant) -> Bare {
    Bare::new(policy(Algorithm::PeakEwma), registrations(zones), now)
}

fn picked(picked: Picked) -> (Arc<Endpoint>, Stream) {
    match picked {
        Picked::Endpoint(endpoint, stream) => (endpoint, stream),
        other @ (Picked::Full | Picked::Unready | Picked::AllUnhealthy) => panic!("{other:?}"),
    }
}

/// Makes a call that takes `latency` and ends with a code, both by who gets it; returns who did.
fn call(
    bare: &Bare,
    now: Instant,
    answer: impl Fn(&Endpoint) -> (Duration, Code),
) -> Arc<Endpoint> {
    let (endpoint, stream) = picked(bare.pick(&[], None, now));
    let mut flight = Flight::begin(Arc::clone(&endpoint), stream, now, None);
    let (latency, code) = answer(&endpoint);
    flight.finish_at(code, now + latency);
    endpoint
}

/// Calls as fast as `every` says for some time, with changes noticed as the resolver does; returns how many each got.
fn calls(
    bare: &mut Bare,
    from: Instant,
    for_: Duration,
    every: Duration,
    answer: impl Fn(&Endpoint, Instant) -> (Duration, Code),
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut now = from;
    let (mut settled, mut examined) = (from, from);
    while now < from + for_ {
        if now - examined >= SECOND {
            examined = now;
            bare.examine(now);
        } else if now - settled >= 100 * MILLISECOND {
            settled = now;
            bare.settle(now);
        }
        let endpoint = call(bare, now, |endpoint| answer(endpoint, now));
        *counts.entry(endpoint.instance.clone()).or_default() += 1;
        now += every;
    }
    counts
}

fn fast(_: &Endpoint, _: Instant) -> (Duration, Code) {
    (MILLISECOND, Code::Ok)
}

#[test]
fn equals_get_equal_shares() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 10)], now);
    let counts = calls(&mut bare, now, 10 * SECOND, MILLISECOND, fast);
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| (500..1_500).contains(count)), "{counts:?}");
}

#[test]
fn a_slow_one_is_hardly_called() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 10)], now);
    let counts = calls(&mut bare, now, 10 * SECOND, MILLISECOND, |endpoint, _| {
        (if endpoint.instance == "a-3" { 10 * MILLISECOND } else { MILLISECOND }, Code::Ok)
    });
    let slow = counts.get("a-3").copied().unwrap_or(0);
    assert!(slow < 200, "{counts:?}");
}

#[test]
fn one_that_fails_fast_is_called_a_few_times_only() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 10)], now);
    let counts = calls(&mut bare, now, 30 * SECOND, MILLISECOND, |endpoint, _| {
        if endpoint.instance == "a-3" {
            (MILLISECOND / 10, Code::Unavailable)
        } else {
            (MILLISECOND, Code::Ok)
        }
    });
    let failures = counts.get("a-3").copied().unwrap_or(0);
    assert!((1..10).contains(&failures), "{failures} of 30,000 calls");
}

#[test]
fn after_one_failure_a_lightly_loaded_one_is_back_within_seconds() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 3)], now);
    let every = 200 * MILLISECOND;
    calls(&mut bare, now, 5 * SECOND, every, fast);
    let failed = call(&bare, now + 5 * SECOND, |_| (MILLISECOND, Code::Unavailable));
    let soon = calls(&mut bare, now + 6 * SECOND, 3 * SECOND, every, fast);
    assert_eq!(soon.get(&failed.instance), None, "it is avoided at first: {soon:?}");
    let later = calls(&mut bare, now + 10 * SECOND, 5 * SECOND, every, fast);
    assert!(later.contains_key(&failed.instance), "{later:?}");
}

#[test]
fn who_refuses_for_want_of_room_gets_less_and_is_not_taken_for_broken() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 4)], now);
    let counts = calls(&mut bare, now, 10 * SECOND, 5 * MILLISECOND, |endpoint, _| {
        let full = endpoint.instance == "a-0";
        (MILLISECOND, if full { Code::ResourceExhausted } else { Code::Ok })
    });
    assert!(counts["a-0"] < 10, "{counts:?}");
    assert!(bare.endpoints.iter().all(|it| it.can_be_used(it.tick(now + 10 * SECOND))));
}

#[test]
fn a_callers_faults_trip_nothing() {
    let mut now = Instant::now();
    let mut bare = bare(&[("a", 3)], now);
    for code in [
        Code::PermissionDenied,
        Code::NotFound,
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::Cancelled,
        Code::Unknown,
    ] {
        let counts = calls(&mut bare, now, SECOND, MILLISECOND, |_, _| (MILLISECOND, code));
        assert_eq!(counts.len(), 3, "{code:?}: {counts:?}");
        now += SECOND;
    }
}

#[test]
fn seven_failures_in_a_row_open_the_breaker_and_one_good_probe_shuts_it() {
    let start = Instant::now();
    let mut bare = bare(&[("a", 3)], start);
    let endpoint = Arc::clone(&bare.endpoints[0]);
    // So many calls that seven failures are no bad rate.
    calls(&mut bare, start, SECOND, MILLISECOND, fast);
    let end = start + SECOND;
    for at in 0..7 {
        assert!(endpoint.can_be_used(endpoint.tick(end)), "after {at}");
        endpoint.ended(Verdict::Failed, None, endpoint.tick(end));
    }
    assert!(!endpoint.can_be_used(endpoint.tick(end)));
    // Up to a second and a half later.
    let later = end + 2 * SECOND;
    bare.settle(later);
    let (probed, stream) = picked(bare.pick(&[], None, later));
    assert!(Arc::ptr_eq(&probed, &endpoint), "the next call is the probe");
    for _ in 0..20 {
        let (other, _) = picked(bare.pick(&[], None, later));
        assert!(!Arc::ptr_eq(&other, &endpoint), "and only that");
    }
    let mut flight = Flight::begin(probed, stream, later, None);
    flight.finish_at(Code::Ok, later + MILLISECOND);
    drop(flight);
    assert!(endpoint.can_be_used(endpoint.tick(later)));
}

#[test]
fn a_success_rate_below_four_fifths_opens_it_too() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 3)], now);
    let tick = bare.endpoints[0].tick(now);
    let end = |at: usize, verdict| bare.endpoints[at].ended(verdict, None, tick);
    for _ in 0..4 {
        end(0, Verdict::Good);
        end(1, Verdict::Failed);
    }
    end(0, Verdict::Failed);
    assert!(bare.endpoints[..2].iter().all(|it| it.can_be_used(tick)), "a fifth; too few calls");
    end(0, Verdict::Failed);
    end(1, Verdict::Good);
    assert!(bare.endpoints[..2].iter().all(|it| !it.can_be_used(tick)));
    bare.settle(now);
    assert!(bare.endpoints[2].can_be_used(tick));
}

#[test]
fn a_probe_that_fails_or_is_refused_waits_twice_as_long_and_one_given_up_is_followed_by_another() {
    let start = Instant::now();
    let mut bare = bare(&[("a", 3)], start);
    let endpoint = Arc::clone(&bare.endpoints[0]);
    for _ in 0..7 {
        endpoint.ended(Verdict::Failed, None, endpoint.tick(start));
    }
    let mut now = start + 2 * SECOND;
    let mut waits = [2..=3, 4..=6, 8..=12].into_iter();
    for code in [Code::ResourceExhausted, Code::Unavailable, Code::DeadlineExceeded] {
        bare.settle(now);
        // Dropped before it was sent.
        drop(picked(bare.pick(&[], None, now)));
        let (probed, stream) = picked(bare.pick(&[], None, now));
        assert!(Arc::ptr_eq(&probed, &endpoint));
        Flight::begin(probed, stream, now, None).finish_at(code, now);
        let wait = waits.next().unwrap();
        bare.settle(now + Duration::from_secs(*wait.start()) - MILLISECOND);
        let early = now + Duration::from_secs(*wait.start()) - MILLISECOND;
        assert!(!Arc::ptr_eq(&picked(bare.pick(&[], None, early)).0, &endpoint));
        now += Duration::from_secs(*wait.end());
    }
}

#[test]
fn one_that_breaks_off_each_call_does_not_begin_anew_with_each_connection() {
    let start = Instant::now();
    let mut bare = bare(&[("a", 3)], start);
    let endpoint = Arc::clone(&bare.endpoints[0]);
    let reconnect = |bare: &mut Bare, now: Instant| {
        endpoint.disconnect();
        bare.settle(now);
        endpoint.connected(Connection::to_nobody(&endpoint, 1_000), now);
        bare.settle(now);
    };
    let mut failures = 0;
    for tenths in 0..300 {
        let now = start + tenths * 100 * MILLISECOND;
        if tenths % 10 == 0 {
            bare.examine(now);
        }
        let called = call(&bare, now, |it| {
            (MILLISECOND, if it.instance == "a-0" { Code::Unavailable } else { Code::Ok })
        });
        if Arc::ptr_eq(&called, &endpoint) {
            failures += 1;
            reconnect(&mut bare, now + 10 * MILLISECOND);
        }
    }
    assert!((1..10).contains(&failures), "{failures} of 300 calls");

    // One that was not called for a while, or had answered, may well be another process.
    let later = start + 60 * SECOND;
    endpoint.ended(Verdict::Failed, None, endpoint.tick(later));
    assert!(endpoint.load.cost(1.0, endpoint.tick(later)) > 1.0);
    reconnect(&mut bare, later + 11 * SECOND);
    assert!(endpoint.load.cost(1.0, endpoint.tick(later + 11 * SECOND)) < 1.0);
}

#[test]
fn a_failing_majority_is_used_all_the_same_and_then_named() {
    let now = Instant::now();
    let mut bare = bare(&[("a", 4)], now);
    let trip = |endpoint: &Endpoint| {
        for _ in 0..7 {
            endpoint.ended(Verdict::Failed, None, endpoint.tick(now));
        }
    };
    bare.endpoints[..2].iter().for_each(|it| trip(it));
    bare.settle(now);
    let used = |bare: &Bare| -> BTreeSet<String> {
        (0..200).map(|_| picked(bare.pick(&[], None, now)).0.instance.clone()).collect()
    };
    assert_eq!(used(&bare).len(), 2, "half is enough");
    trip(&bare.endpoints[2]);
    bare.settle(now);
    assert!(used(&bare).len() > 2, "a quarter is not");
    trip(&bare.endpoints[3]);
    bare.settle(now);
    let tried = bare.endpoints[..3].to_vec();
    assert_eq!(picked(bare.pick(&tried, None, now)).0.instance, "a-3");
    assert!(matches!(bare.pick(&bare.endpoints, None, now), Picked::AllUnhealthy));
}

#[test]
fn who_was_tried_is_better_than_nothing_but_no_more() {
    let now = Instant::now();
    let bare = bare(&[("a", 30)], now);
    for count in 1..30 {
        let tried = &bare.endpoints[..count];
        let (endpoint, _) = picked(bare.pick(tried, None, now));
        assert!(!tried.iter().any(|it| Arc::ptr_eq(it, &endpoint)));
    }
    assert!(matches!(bare.pick(&bare.endpoints, None, now), Picked::Endpoint(..)));
}

#[test]
fn a_new_instance_under_load_gets_a_share_that_grows() {
    let start = Instant::now();
    let mut policy = policy(Algorithm::PeakEwma);
    policy.balancing.warm_up = 10 * SECOND;
    let mut bare = Bare::new(policy, registrations(&[("a", 4)]), start);
    bare.join(0, Timestamp::now(), start);
    let mut shares = Vec::new();
    for second in 0..12 {
        let counts = calls(&mut bare, start + second * SECOND, SECOND, MILLISECOND, fast);
        shares.push(counts.get("a-0").copied().unwrap_or(0));
    }
    // A thirty-first of the calls by weight at first, a quarter in the end; it may get up to twice its share while it looks better.
    assert!((10..150).contains(&shares[0]), "{shares:?}");
    assert!(shares[5] > shares[0] && shares[11] > 150, "{shares:?}");
}

#[test]
fn turns_are_taken_and_a_ring_is_kept_to() {
    let now = Instant::now();
    let turns = Bare::new(policy(Algorithm::RoundRobin), registrations(&[("a", 3)]), now);
    let order: Vec<_> =
        (0..6).map(|_| picked(turns.pick(&[], None, now)).0.instance.clone()).collect();
    assert_eq!(order[..3], order[3..]);
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3);

    let header = http::HeaderName::from_static("key");
    let ring = policy(Algorithm::RingHash { header });
    let mut ring = Bare::new(ring, registrations(&[("a", 10)]), now);
    let keys: Vec<u64> = (1..200_u64).map(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let places = |bare: &Bare| -> Vec<String> {
        keys.iter().map(|key| picked(bare.pick(&[], Some(*key), now)).0.instance.clone()).collect()
    };
    let before = places(&ring);
    assert_eq!(before, places(&ring));
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 10);
    let failed = Arc::clone(&ring.endpoints[4]);
    for _ in 0..7 {
        failed.ended(Verdict::Failed, None, failed.tick(now));
    }
    ring.settle(now);
    for (before, after) in before.iter().zip(places(&ring)) {
        if *before == failed.instance {
            assert_ne!(after, failed.instance);
        } else {
            assert_eq!(*before, after, "only the keys of the one that fails move");
        }
    }
}

#[test]
fn a_service_that_is_hardly_called_is_hardly_connected_to() {
    let now = Instant::now();
    let registrations = registrations(&[("a", 500), ("b", 500)]);
    let bare =
        Bare::unconnected(policy(Algorithm::PeakEwma), registrations, Timestamp::UNIX_EPOCH, now);
    let wanted = |bare: &Bare| bare.endpoints.iter().filter(|it| it.is_wanted()).count();
    assert_eq!(wanted(&bare), 0);
    assert!(matches!(bare.pick(&[], None, now), Picked::Unready));
    assert!(wanted(&bare) <= 20, "{}", wanted(&bare));
    for endpoint in &bare.endpoints[..1] {
        endpoint.connected(Connection::to_nobody(endpoint, 1_000), now);
    }
    let before = wanted(&bare);
    for _ in 0..10 {
        picked(bare.pick(&[], None, now));
    }
    assert!(wanted(&bare) <= before + 20);
}

#[test]
fn what_is_full_is_passed_over_until_all_are() {
    let now = Instant::now();
    let mut bare = Bare::unconnected(
        policy(Algorithm::PeakEwma),
        registrations(&[("a", 3)]),
        Timestamp::UNIX_EPOCH,
        now,
    );
    for endpoint in &bare.endpoints {
        endpoint.connected(Connection::to_nobody(endpoint, 2), now);
    }
    bare.settle(now);
    let held: Vec<_> = (0..6).map(|_| picked(bare.pick(&[], None, now))).collect();
    assert!(matches!(bare.pick(&[], None, now), Picked::Full));
    drop(held);
    assert!(matches!(bare.pick(&[], None, now), Picked::Endpoint(..)));
}
