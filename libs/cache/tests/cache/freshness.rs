//! How old an answer may be, who reads the source, and what is served when it can't answer.

use std::time::Duration;

use tokio::task::JoinSet;

use super::source::SECOND;
use super::source::Source;
use super::source::cache;
use super::source::cache_over;
use super::source::filled;
use super::source::some;

#[tokio::test]
async fn all_who_wait_for_a_key_share_one_read() {
    let cache = cache();
    let source = Source::gated([Ok(filled(1, 0, "one"))]);
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let (cache, source) = (cache.clone(), source.clone());
        asking.spawn(async move { source.get(&cache, 0).await });
    }
    source.until_read(1).await;
    source.open(1);
    for answer in asking.join_all().await {
        assert_eq!(answer, some("one"));
    }
    assert_eq!(source.reads(), 1);
}

#[tokio::test]
async fn a_reader_that_gives_up_leaves_the_others_their_answer() {
    let cache = cache();
    let source = Source::gated([Ok(filled(1, 0, "one"))]);
    let leader = tokio::time::timeout(Duration::from_millis(1), source.get(&cache, 0)).await;
    assert!(leader.is_err(), "it gave up");
    source.open(2);
    assert_eq!(source.get(&cache, 0).await, some("one"));
}

#[tokio::test]
async fn the_time_to_live_counts_from_the_read_on_the_primary() {
    let cache = cache();
    let source = Source::new([Ok(filled(1, 0, "one")), Ok(filled(2, 30 * SECOND, "two"))]);
    assert_eq!(source.get(&cache, 20 * SECOND).await, some("one"));
    assert!(cache.peek(b"key", 23 * SECOND).is_some());
    assert!(cache.peek(b"key", 30 * SECOND).is_none());
    assert_eq!(source.get(&cache, 30 * SECOND).await, some("two"));
}

#[tokio::test]
async fn one_request_refreshes_an_ageing_entry_while_the_others_are_served() {
    let cache = cache();
    let first = Source::new([Ok(filled(1, 0, "one"))]);
    assert_eq!(first.get(&cache, 0).await, some("one"));
    let slow = Source::gated([Ok(filled(2, 25 * SECOND, "two"))]);
    let mut refreshing = JoinSet::new();
    {
        let (cache, slow) = (cache.clone(), slow.clone());
        refreshing.spawn(async move { slow.get(&cache, 25 * SECOND).await });
    }
    slow.until_read(1).await;
    assert_eq!(slow.get(&cache, 25 * SECOND).await, some("one"));
    slow.open(1);
    assert_eq!(refreshing.join_all().await, [some("two")]);
    assert_eq!(slow.get(&cache, 25 * SECOND).await, some("two"));
    assert_eq!(slow.reads(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_served_only_while_the_source_fails_and_up_to_its_maximum() {
    let cache = cache();
    let source = Source::new([Ok(filled(1, 0, "one")), Err("away"), Ok(filled(2, 0, "two"))]);
    assert_eq!(source.get(&cache, 0).await, some("one"));
    assert_eq!(source.get(&cache, 100 * SECOND).await, some("one"), "the source failed");
    assert_eq!(source.get(&cache, 100 * SECOND + 1).await, some("one"));
    assert_eq!(source.reads(), 2, "and is left alone for a second");
    assert_eq!(source.get(&cache, 102 * SECOND).await, some("two"), "it answers again");

    let failing = Source::new([Ok(filled(3, 0, "three")), Err("away")]);
    cache.doubt(1);
    assert_eq!(failing.get(&cache, 10).await, some("three"));
    assert_eq!(failing.get(&cache, 599 * SECOND).await, some("three"));
    assert_eq!(failing.get(&cache, 601 * SECOND).await, Err("away"), "it is too old");
}

#[tokio::test]
async fn a_failure_long_ago_lets_nobody_be_served_what_is_stale_now() {
    let cache = cache();
    let failed = Source::new([Ok(filled(1, 0, "one")), Err("away")]);
    assert_eq!(failed.get(&cache, 0).await, some("one"));
    assert_eq!(failed.get(&cache, 100 * SECOND).await, some("one"));
    let slow = Source::gated([Ok(filled(2, 200 * SECOND, "two"))]);
    let mut asking = JoinSet::new();
    for _ in 0..2 {
        let (cache, slow) = (cache.clone(), slow.clone());
        asking.spawn(async move { slow.get(&cache, 200 * SECOND).await });
    }
    slow.until_read(1).await;
    slow.open(1);
    assert_eq!(asking.join_all().await, [some("two"), some("two")]);
}

#[tokio::test]
async fn what_was_read_before_a_doubt_is_read_again() {
    let cache = cache();
    let source = Source::new([Ok(filled(1, 5, "one")), Ok(filled(2, 20, "two"))]);
    assert_eq!(source.get(&cache, 10).await, some("one"));
    cache.doubt(15);
    assert_eq!(source.get(&cache, 20).await, some("two"));
    assert_eq!(source.get(&cache, 20).await, some("two"));
    assert_eq!(source.reads(), 2);
}

#[tokio::test]
async fn a_primary_whose_clock_is_ahead_makes_nothing_live_longer() {
    let cache = cache();
    let source = Source::new([Ok(filled(1, 1_000 * SECOND, "one")), Ok(filled(2, 0, "two"))]);
    assert_eq!(source.get(&cache, 0).await, some("one"));
    assert_eq!(source.get(&cache, 31 * SECOND).await, some("two"));
}

#[tokio::test]
async fn the_number_of_entries_is_bounded() {
    let cache = cache_over(None, 64, None);
    for number in 0..10_000_u32 {
        let key = number.to_be_bytes();
        cache.offer(&key, filled(1, 0, "x"), 0).await;
    }
    let kept = (0..10_000_u32).filter(|n| cache.peek(&n.to_be_bytes(), 0).is_some()).count();
    assert!((1..=64).contains(&kept), "{kept}");
}
