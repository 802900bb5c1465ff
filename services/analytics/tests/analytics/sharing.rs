//! Partitions are shared out, handed over at a stop, and taken over after a crash. And salts, which all instances share.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::Harness;
use crate::harness::PARTITIONS;
use crate::harness::until;

/// A crashed instance's partitions are folded by others within 5 s; a loaded machine gets ten times as long.
const TAKE_OVER_MAX: Duration = Duration::from_secs(50);

async fn owners(harness: &Harness) -> BTreeMap<String, usize> {
    let mut owners = BTreeMap::new();
    for view in harness.store.partitions().await.unwrap() {
        if let Some(owner) = view.owner {
            *owners.entry(owner).or_default() += 1;
        }
    }
    owners
}

fn share(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test]
async fn instances_take_fair_shares_and_hand_them_over_when_they_leave() {
    let harness = Harness::new().await;
    let a = harness.aggregate("a");
    until("a holds all", async || owners(&harness).await == share(&[("a", 4)])).await;
    let b = harness.aggregate("b");
    until("both hold half", async || owners(&harness).await == share(&[("a", 2), ("b", 2)])).await;
    let c = harness.aggregate("c");
    until("three hold all", async || {
        owners(&harness).await == share(&[("a", 2), ("b", 1), ("c", 1)])
    })
    .await;
    b.stop().await;
    until("two hold all", async || owners(&harness).await == share(&[("a", 2), ("c", 2)])).await;
    a.stop().await;
    c.stop().await;
    assert!(owners(&harness).await.is_empty(), "a stop releases at once");
}

#[tokio::test]
async fn a_killed_instances_partitions_are_folded_by_the_others_soon() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let (a, b) = (harness.aggregate("a"), harness.aggregate("b"));
    until("both hold half", async || owners(&harness).await == share(&[("a", 2), ("b", 2)])).await;
    a.kill().await;
    let killed = Instant::now();
    for partition in 0..PARTITIONS {
        harness.produce(partition, spool, 1, &[harness.click(link)]).await;
    }
    harness.all_folded().await;
    assert!(killed.elapsed() < TAKE_OVER_MAX, "took over after {:?}", killed.elapsed());
    assert_eq!(harness.counted(link).await.clicks, u64::from(PARTITIONS));
    b.stop().await;
}

#[tokio::test]
async fn an_instance_that_starts_again_takes_its_own_back_at_once() {
    let harness = Harness::new().await;
    let a = harness.aggregate("a");
    until("a holds all", async || owners(&harness).await == share(&[("a", 4)])).await;
    a.kill().await;
    let again = harness.aggregate("a");
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    harness.produce(0, spool, 1, &[harness.click(link)]).await;
    harness.all_folded().await;
    again.stop().await;
    assert_eq!(harness.counted(link).await.clicks, 1);
}

#[tokio::test]
async fn a_partition_whose_taking_got_no_answer_is_not_held_for_ever() {
    let harness = Harness::new().await;
    let hour = Duration::from_secs(3600);
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let taken = harness.store.take("a", a, Duration::ZERO, 4).await.unwrap();
    let (known, epoch) = taken[0];
    let beat = harness.store.beat("a", a, hour, &[epoch]).await.unwrap();
    assert_eq!(beat.held, [known], "the others are not known to be held");
    let others = harness.store.take("b", b, hour, 4).await.unwrap();
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|(partition, _)| *partition != known));
}

#[tokio::test]
async fn a_salt_is_made_a_day_ahead_kept_for_48_hours_and_destroyed() {
    const HOUR: i64 = 3_600_000_000;
    let harness = Harness::new().await;
    let day = 20_000;
    let begins = i64::from(day) * 24 * HOUR;
    let ask = async |at: i64| {
        let salts = harness.store.salts(at, [rand_key(), rand_key()]).await.unwrap();
        salts.into_iter().collect::<BTreeMap<i32, [u8; 16]>>()
    };
    let eve = ask(begins - 1).await;
    let key = eve[&day];
    let on_the_day = ask(begins + HOUR).await;
    assert_eq!(on_the_day[&day], key, "made a day ahead, and the same for every edge");
    assert_eq!(on_the_day.keys().copied().collect::<Vec<_>>(), [day - 1, day, day + 1]);
    assert_eq!(ask(begins + 48 * HOUR - 1).await[&day], key, "the last moment");

    assert_eq!(harness.store.destroy_salts(begins + 48 * HOUR).await.unwrap(), 1);
    let after = ask(begins + 48 * HOUR).await;
    assert!(!after.contains_key(&day));
    // Even a clock that is set back gets no old key: a new one was made, or none.
    let back = ask(begins + HOUR).await;
    assert_ne!(back[&day], key);
}

fn rand_key() -> [u8; 16] {
    *Uuid::new_v4().as_bytes()
}
