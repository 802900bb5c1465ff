//! Once a version was seen, no lower one is served.

use super::source::SECOND;
use super::source::Source;
use super::source::cache;
use super::source::cache_over;
use super::source::filled;
use super::source::nothing;
use super::source::some;

#[tokio::test]
async fn a_fill_overtaken_by_a_change_reads_again_and_never_returns_the_old_state() {
    let cache = cache();
    let source = Source::gated([Ok(filled(1, 0, "old")), Ok(filled(2, 0, "new"))]);
    let asking = tokio::task::JoinSet::from_iter([{
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.get(&cache, SECOND).await }
    }]);
    source.until_read(1).await;
    cache.apply(vec![(b"key".to_vec(), filled(2, 0, "new"))], SECOND).await;
    source.open(2);
    assert_eq!(asking.join_all().await, [some("new")]);
    assert_eq!(source.reads(), 2);
}

#[tokio::test]
async fn a_fill_overtaken_by_a_deletion_does_not_bring_the_link_back() {
    let cache = cache();
    let source = Source::gated([Ok(filled(1, 0, "old")), Ok(nothing(2, 0))]);
    let asking = tokio::task::JoinSet::from_iter([{
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.get(&cache, SECOND).await }
    }]);
    source.until_read(1).await;
    cache.outdate(b"key", 2, SECOND);
    source.open(2);
    assert_eq!(asking.join_all().await, [Ok(None)]);
    assert_eq!(source.get(&cache, 2 * SECOND).await, Ok(None));
}

#[tokio::test]
async fn a_change_replaces_what_is_here_and_an_older_one_does_not() {
    let cache = cache();
    let source = Source::new([Ok(filled(5, 0, "five"))]);
    assert_eq!(source.get(&cache, 0).await, some("five"));
    cache.apply(vec![(b"key".to_vec(), filled(4, 0, "four"))], 0).await;
    assert_eq!(source.get(&cache, 0).await, some("five"));
    cache.apply(vec![(b"key".to_vec(), filled(6, 0, "six"))], 0).await;
    assert_eq!(source.get(&cache, 0).await, some("six"));
    assert_eq!(source.reads(), 1);
}

#[tokio::test]
async fn a_negative_entry_gives_way_when_the_link_is_created() {
    let cache = cache();
    let source = Source::new([Ok(nothing(0, 0))]);
    assert_eq!(source.get(&cache, 0).await, Ok(None));
    assert_eq!(source.get(&cache, 0).await, Ok(None));
    assert_eq!(source.reads(), 1, "absence is remembered");
    cache.apply(vec![(b"key".to_vec(), filled(7, 0, "created"))], 0).await;
    assert_eq!(source.get(&cache, 0).await, some("created"));
    assert_eq!(source.reads(), 1);
}

#[tokio::test]
async fn a_key_under_a_changed_scope_is_read_again() {
    let cache = cache_over(None, 1_000, Some(2));
    let source = Source::new([Ok(filled(1, 0, "valid")), Ok(nothing(2, 0))]);
    assert_eq!(source.get(&cache, 0).await, some("valid"));
    cache.outdate(b"xx", 9, 0);
    assert_eq!(source.get(&cache, 0).await, some("valid"), "another scope changed");
    cache.outdate(b"ke", 2, 0);
    assert_eq!(source.get(&cache, 0).await, Ok(None));
}

#[tokio::test]
async fn a_source_that_knows_a_lower_version_twice_is_believed_but_not_remembered() {
    let cache = cache();
    let source = Source::new([Ok(filled(1, 0, "restored"))]);
    cache.outdate(b"key", 2, 0);
    assert_eq!(source.get(&cache, 0).await, some("restored"));
    assert_eq!(source.get(&cache, 0).await, some("restored"));
    assert_eq!(source.reads(), 4, "each look-up read twice");
}
