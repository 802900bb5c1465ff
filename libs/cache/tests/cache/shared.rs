//! L2, on a real Redis: shared, atomic, carrying age, and never waited for when it fails.

use std::time::Duration;
use std::time::Instant;

use cache::L2;
use stack::Redis;
use stack::TemporaryFolder;
use tokio::task::JoinSet;

use super::source::Cache;
use super::source::SECOND;
use super::source::Source;
use super::source::cache_over;
use super::source::filled;
use super::source::nothing;
use super::source::some;

struct Shared {
    redis: Redis,
    _folder: TemporaryFolder,
}

impl Shared {
    async fn start() -> Self {
        let folder = TemporaryFolder::new().expect("a folder");
        let options = stack::Options::bound(folder.path().join("redis")).expect("a port");
        let redis = Redis::start(options).await.expect("Redis starts");
        Self { redis, _folder: folder }
    }

    /// A process of its own: nothing in L1.
    fn cache(&self) -> Cache {
        cache_over(Some(L2::open(&self.redis.url()).expect("a URI")), 1_000, None)
    }
}

/// Polls until `attempt` says yes.
async fn eventually<F: Future<Output = bool>>(what: &str, attempt: impl Fn() -> F) {
    let polling = async {
        while !attempt().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), polling).await.expect(what);
}

#[tokio::test]
async fn what_one_process_read_another_has_with_its_age() {
    let shared = Shared::start().await;
    let source = Source::new([Ok(filled(1, 0, "one")), Ok(filled(2, 31 * SECOND, "two"))]);
    assert_eq!(source.get(&shared.cache(), 0).await, some("one"));
    let other = shared.cache();
    assert_eq!(source.get(&other, 29 * SECOND).await, some("one"));
    assert_eq!(source.reads(), 1);
    assert_eq!(source.get(&other, 31 * SECOND).await, some("two"), "30 s from the first read");
}

#[tokio::test]
async fn absence_is_shared_too() {
    let shared = Shared::start().await;
    let source = Source::new([Ok(nothing(3, 0))]);
    assert_eq!(source.get(&shared.cache(), 0).await, Ok(None));
    assert_eq!(source.get(&shared.cache(), 0).await, Ok(None));
    assert_eq!(source.reads(), 1);
}

#[tokio::test]
async fn of_many_concurrent_writers_the_highest_version_stays() {
    let shared = Shared::start().await;
    let mut writers = JoinSet::new();
    for writer in 0..8_i64 {
        let cache = shared.cache();
        writers.spawn(async move {
            for step in 0..50_i64 {
                let version = 1 + (step * 7 + writer * 13) % 101;
                let text = version.to_string();
                cache.offer(b"key", filled(version, 0, &text), 0).await;
            }
        });
    }
    writers.join_all().await;
    let source = Source::new([Err("not asked")]);
    assert_eq!(source.get(&shared.cache(), 0).await, some("101"));
}

#[tokio::test]
async fn a_change_reaches_l2_and_an_older_fill_does_not_undo_it() {
    let shared = Shared::start().await;
    let old = Source::new([Ok(filled(1, 0, "old"))]);
    assert_eq!(old.get(&shared.cache(), 0).await, some("old"));
    let follower = shared.cache();
    follower.apply(vec![(b"key".to_vec(), nothing(2, 0))], 0).await;
    // A process that has not heard of the change writes what it read before.
    shared.cache().offer(b"key", filled(1, 0, "old"), 0).await;
    assert_eq!(old.get(&shared.cache(), 0).await, Ok(None));
}

#[tokio::test]
async fn a_lower_version_in_l2_is_refused_by_whoever_has_seen_a_higher_one() {
    let shared = Shared::start().await;
    shared.cache().offer(b"key", filled(1, 0, "old"), 0).await;
    let cache = shared.cache();
    cache.outdate(b"key", 2, 0);
    let source = Source::new([Ok(filled(2, 0, "new"))]);
    assert_eq!(source.get(&cache, 0).await, some("new"));
}

#[tokio::test]
async fn a_stale_answer_of_l2_is_served_only_if_the_source_fails() {
    let shared = Shared::start().await;
    shared.cache().offer(b"key", filled(1, 0, "one"), 0).await;
    let away = Source::new([Err("away")]);
    assert_eq!(away.get(&shared.cache(), 100 * SECOND).await, some("one"));
    assert_eq!(away.get(&shared.cache(), 601 * SECOND).await, Err("away"));
}

#[tokio::test]
async fn a_frozen_redis_is_waited_for_once_and_then_skipped() {
    let shared = Shared::start().await;
    let cache = shared.cache();
    cache.offer(b"other", filled(1, 0, "x"), 0).await;
    shared.redis.freeze().await;
    let source = Source::new([Ok(filled(1, 0, "one"))]);
    let began = Instant::now();
    assert_eq!(source.get(&cache, 0).await, some("one"));
    for number in 0..100_u32 {
        let source = source.clone();
        let read = move || source.clone().read();
        cache.get(&number.to_be_bytes(), 0, read).await.expect("the source answers");
    }
    // Ten times what one wait may take, not a hundred waits.
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    shared.redis.thaw().await;
}

#[tokio::test]
async fn a_redis_that_was_away_is_used_again_when_it_is_back() {
    let shared = Shared::start().await;
    let cache = shared.cache();
    cache.offer(b"key", filled(1, 0, "one"), 0).await;
    shared.redis.kill().await;
    let source = Source::new([Ok(filled(2, 0, "two"))]);
    assert_eq!(source.get(&cache, 0).await, some("one"), "it is in L1");
    cache.apply(vec![(b"key".to_vec(), filled(2, 0, "two"))], 0).await;
    shared.redis.restart().await.expect("Redis starts again");
    eventually("L2 is used again", async || {
        cache.offer(b"key", filled(3, 0, "three"), 0).await;
        Source::new([Err("miss")]).get(&shared.cache(), 0).await == some("three")
    })
    .await;
}
