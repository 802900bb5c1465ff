//! Which instances are near enough: the caller's zone, its slice.

use super::super::Position;
use super::*;

/// How many calls stayed in the caller's zone.
fn in_zone(counts: &BTreeMap<String, usize>) -> usize {
    counts.iter().filter(|(name, _)| name.starts_with('a')).map(|(_, count)| *count).sum()
}

#[test]
fn calls_stay_in_their_zone_until_it_fails_and_come_back_little_by_little() {
    let start = Instant::now();
    let mut bare = bare(&[("a", 4), ("b", 4)], start);
    let counts = calls(&mut bare, start, SECOND, MILLISECOND, fast);
    assert_eq!(in_zone(&counts), 1_000);

    // The zone fails for 30 s, then returns.
    let lost = start + SECOND;
    let back = lost + 30 * SECOND;
    let failing = |endpoint: &Endpoint, now: Instant| {
        let failed = endpoint.instance.starts_with('a') && now < back;
        (MILLISECOND, if failed { Code::Unavailable } else { Code::Ok })
    };
    let mut shares = Vec::new();
    for second in 0..90 {
        let counts = calls(&mut bare, lost + second * SECOND, SECOND, MILLISECOND, failing);
        shares.push(in_zone(&counts));
    }
    assert!(shares[1] < 20 && shares[10] < 20, "{shares:?}");
    assert_eq!(*shares.last().unwrap(), 1_000, "{shares:?}");
    // It never falls back on its way, and takes at most a tenth more each second for each that returns.
    let returning = &shares[30..];
    for pair in returning.windows(2) {
        assert!(pair[1] + 60 >= pair[0], "it swings: {shares:?}");
        assert!(pair[1] <= pair[0] + 250, "it jumps: {shares:?}");
    }
}

#[test]
fn a_zone_that_refuses_some_calls_gives_calls_away_until_it_refuses_few_and_gets_them_back() {
    let start = Instant::now();
    let mut bare = bare(&[("a", 4), ("b", 4)], start);
    // It has room for 600 calls a second.
    let full_until = start + 30 * SECOND;
    let taken = std::cell::Cell::new((start, 0));
    let answer = |endpoint: &Endpoint, now: Instant| {
        let (second, count) = taken.get();
        let count = if now - second >= SECOND { 0 } else { count };
        let second = if now - second >= SECOND { now } else { second };
        let own = endpoint.instance.starts_with('a');
        taken.set((second, count + usize::from(own)));
        let refused = own && count >= 600 && now < full_until;
        (MILLISECOND, if refused { Code::ResourceExhausted } else { Code::Ok })
    };
    let mut shares = Vec::new();
    for second in 0..60 {
        let counts = calls(&mut bare, start + second * SECOND, SECOND, MILLISECOND, answer);
        shares.push(in_zone(&counts));
    }
    assert!(shares[0] > 900, "{shares:?}");
    assert!(shares[10..30].iter().all(|share| (350..800).contains(share)), "{shares:?}");
    assert_eq!(*shares.last().unwrap(), 1_000, "{shares:?}");
    assert!(shares[30..].windows(2).all(|pair| pair[1] <= pair[0] + 80), "{shares:?}");
}

#[test]
fn a_caller_keeps_to_its_slice_while_that_is_healthy() {
    let now = Instant::now();
    let mut policy = policy(Algorithm::PeakEwma);
    policy.balancing.aperture_instances_min = Some(4);
    let mut bare = Bare::new(policy, registrations(&[("a", 40)]), now);
    bare.stand_at(Position { ordinal: 3, count: 10 }, now);
    let used = calls(&mut bare, now, SECOND, MILLISECOND, fast);
    assert!((4..=6).contains(&used.len()), "{used:?}");
    for endpoint in bare.endpoints.iter().filter(|it| used.contains_key(&it.instance)) {
        for _ in 0..7 {
            endpoint.ended(Verdict::Failed, None, endpoint.tick(now));
        }
    }
    bare.settle(now);
    let others: BTreeSet<_> =
        (0..500).map(|_| picked(bare.pick(&[], None, now)).0.instance.clone()).collect();
    assert_eq!(others.len(), 40 - used.len(), "then all others take its calls");
    assert!(others.iter().all(|instance| !used.contains_key(instance)));
}
