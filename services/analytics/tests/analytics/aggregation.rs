//! Exactly once: through records sent again, overlaps, thieves and crashes; and a stop where the log is not what it was.

use analytics::consume::folder::Ended;
use analytics::consume::folder::TOPIC;
use prometheus_client::registry::Registry;
use proto::events::v1::Click;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::Harness;
use crate::harness::crash_after;
use crate::harness::until;

fn counted(clicks: u64) -> analytics::domain::counts::Counts {
    analytics::domain::counts::Counts { clicks, bot_clicks: 0 }
}

#[tokio::test]
async fn records_sent_again_and_overlapping_ones_are_counted_once() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let clicks = vec![harness.click(link); 10];
    harness.produce(0, spool, 1, &clicks).await;
    harness.produce(0, spool, 1, &clicks).await;
    // Clicks 6 to 15: the first half came before.
    harness.produce(0, spool, 6, &clicks).await;
    harness.produce(0, Uuid::now_v7(), 1, &clicks[..3]).await;
    harness.fold_all(0).await;
    assert_eq!(harness.counted(link).await, counted(18));
    assert_eq!(harness.counted(Uuid::nil()).await, counted(18));
    let views = harness.store.partitions().await.unwrap();
    assert_eq!(views[0].lost_clicks, 0);
}

#[tokio::test]
async fn numbers_that_never_came_are_published_as_lost() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    harness.produce(0, spool, 1, &[harness.click(link)]).await;
    harness.produce(0, spool, 5, &[harness.click(link)]).await;
    let mut registry = Registry::default();
    let shared = harness.shared_with(&mut registry);
    let aggregator = analytics::consume::aggregator::Aggregator::new(shared, "a");
    let stop = CancellationToken::new();
    let task = tokio::spawn(aggregator.run(stop.clone()));
    harness.all_folded().await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(harness.counted(link).await, counted(2));
    assert_eq!(harness.store.partitions().await.unwrap()[0].lost_clicks, 3);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    assert!(page.contains("analytics_lost_clicks_total 3"), "{page}");
    assert!(page.contains("link_clicks_total{kind=\"human\"} 2"), "{page}");
}

#[tokio::test]
async fn who_lost_the_epoch_changes_nothing() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let (stop, mut number) = (CancellationToken::new(), 1);
    let mut former = Vec::new();
    for _ in 0..8 {
        // Each believes that the partition is its own; only the last one is right.
        former.push(tokio::spawn(harness.folder(0).await.run(stop.clone())));
        for _ in 0..20 {
            harness.produce(0, spool, number, &vec![harness.click(link); 5]).await;
            number += 5;
        }
    }
    harness.all_folded().await;
    harness.produce(0, spool, number, &[harness.click(link)]).await;
    harness.all_folded().await;
    let last = former.pop().unwrap();
    for folder in former {
        assert_eq!(folder.await.unwrap(), Ended::Lost);
    }
    stop.cancel();
    assert_eq!(last.await.unwrap(), Ended::Stopped);
    assert_eq!(harness.counted(link).await, counted(801));
}

#[tokio::test]
async fn a_crash_between_any_two_steps_counts_nothing_twice_and_loses_nothing() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let mut number = 1;
    for polls in 1..60 {
        let clicks = vec![harness.click(link); 3];
        harness.produce(0, spool, number, &clicks).await;
        // Sent again in part, as after a lost acknowledgement.
        harness.produce(0, spool, number, &clicks[..2]).await;
        number += 3;
        let folder = harness.folder(0).await;
        let folding = crash_after(polls, folder.run(CancellationToken::new()));
        let folding = tokio::spawn(folding);
        let end = harness.bus.end_offset(TOPIC, 0).await.unwrap();
        until("it crashed, or had nothing left to crash in", async || {
            folding.is_finished() || harness.next_offset(0).await == end
        })
        .await;
        folding.abort();
    }
    harness.fold_all(0).await;
    assert_eq!(harness.counted(link).await, counted(59 * 3));
    assert_eq!(harness.counted(Uuid::nil()).await, counted(59 * 3));
    assert_eq!(harness.store.partitions().await.unwrap()[0].lost_clicks, 0);
}

#[tokio::test]
async fn a_log_that_was_rewritten_halts_the_partition_until_the_operator_resumes_it() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    harness.produce(0, spool, 1, &[harness.click(link)]).await;
    harness.produce(1, spool, 1, &vec![harness.click(link); 2]).await;
    harness.fold_all(0).await;
    harness.fold_all(1).await;

    // Another log: partition 0 has other records at the same offsets, partition 1 has too few.
    let harness = harness.with_another_log().await;
    let other = Uuid::now_v7();
    harness.produce(0, other, 1, &vec![harness.click(link); 4]).await;
    harness.produce(0, other, 5, &vec![harness.click(link); 4]).await;
    let aggregator = harness.aggregate("a");
    let halted = async |partition: usize| {
        harness.store.partitions().await.unwrap()[partition].halt_reason.clone()
    };
    until("both partitions are halted", async || {
        halted(0).await.is_some() && halted(1).await.is_some()
    })
    .await;
    assert!(halted(0).await.unwrap().contains("rewritten"));
    assert!(halted(1).await.unwrap().contains("log holds"));
    assert_eq!(harness.counted(link).await, counted(3), "nothing is folded while halted");

    assert!(harness.store.resume(0, 0).await.unwrap());
    assert!(harness.store.resume(0, 0).await.unwrap(), "the same call again is no error");
    assert!(!harness.store.resume(2, 0).await.unwrap(), "a partition that is not halted");
    until("partition 0 is folded", async || harness.next_offset(0).await == 2).await;
    assert_eq!(halted(0).await, None);
    assert_eq!(harness.counted(link).await, counted(11));
    assert!(halted(1).await.is_some());
    aggregator.stop().await;
}

#[tokio::test]
async fn folding_goes_on_where_another_stopped_with_large_batches_too() {
    let harness = Harness::new().await;
    let spool = Uuid::now_v7();
    let links: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
    let clicks: Vec<Click> = (0..2_000).map(|index| harness.click(links[index % 50])).collect();
    let aggregator = harness.aggregate("a");
    for (index, part) in clicks.chunks(1_000).enumerate() {
        for partition in 0..4 {
            harness.produce(partition, spool, 1 + index as u64 * 1_000, part).await;
        }
    }
    harness.all_folded().await;
    aggregator.stop().await;
    let again = harness.aggregate("b");
    harness.produce(3, spool, 2_001, &clicks[..50]).await;
    harness.all_folded().await;
    again.stop().await;
    for link in links {
        assert_eq!(harness.counted(link).await, counted(4 * 40 + 1));
    }
    assert_eq!(harness.counted(Uuid::nil()).await, counted(8_050));
}

#[tokio::test]
async fn a_store_that_is_killed_and_comes_back_delays_the_counts_and_nothing_else() {
    let folder = stack::TemporaryFolder::new().unwrap();
    let options = stack::Options::bound(folder.path().join("postgres")).unwrap();
    let postgres = stack::Postgres::start(options, stack::Durability::Throwaway).await.unwrap();
    let config = pg::Config::new(postgres.url_of("postgres"));
    let database = pg::Database::open(&config, &mut Registry::default()).unwrap();
    pg::migrate(&database, &analytics::MIGRATIONS, analytics::NAME).await.unwrap();
    let harness = Harness::over(database).await;

    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let aggregator = harness.aggregate("a");
    let mut number = 1;
    for _ in 0..3 {
        for part in 0..30 {
            harness.produce(part % 4, spool, number, &[harness.click(link)]).await;
            number += u64::from(part % 4 == 3);
        }
        number += 1;
        postgres.kill().await;
        harness.produce(0, spool, number, &[harness.click(link)]).await;
        number += 1;
        postgres.restart().await.unwrap();
    }
    harness.all_folded().await;
    aggregator.stop().await;
    assert_eq!(harness.counted(link).await, counted(93));
    assert_eq!(harness.counted(Uuid::nil()).await, counted(93));
}
