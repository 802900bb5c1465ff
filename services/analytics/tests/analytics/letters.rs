//! Clicks that can't be folded: each becomes a dead letter of its own, none holds the others up, and an operator may ask again.

use std::time::Duration;

use analytics::domain::letter::Reason;
use analytics::store::letters::StoredLetter;
use bus::Record;
use bus::clicks::ClickRecord;
use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use proto::events::v1::Click;
use uuid::Timestamp as UuidTimestamp;
use uuid::Uuid;

use crate::harness::Harness;
use crate::harness::until;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn letters(harness: &Harness) -> Vec<StoredLetter> {
    harness.store.letters(0, 100).await.unwrap()
}

#[tokio::test]
async fn a_broken_click_becomes_a_letter_and_its_neighbours_are_counted() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let good = harness.click(link);
    let old = harness.click_at(link, harness.now - 401 * DAY);
    let ahead = harness.click_at(link, harness.now + Duration::from_secs(3600));
    let nobodys = Click { workspace_id: vec![0; 16], ..good.clone() };
    let clicks = [&good, &old, &good, &ahead, &nobodys, &good];
    let mut clicks: Vec<Bytes> = clicks.iter().map(|click| click.encode_to_vec().into()).collect();
    clicks.insert(1, Bytes::from_static(b"\xff\xff\xff"));
    let record = bus::clicks::encode(&ClickRecord { incarnation: spool, first: 1, clicks });
    harness.produce_raw(0, record.clone()).await;
    // A record sent again makes no letter twice.
    harness.produce_raw(0, record).await;
    harness.fold_all(0).await;

    assert_eq!(harness.counted(link).await.clicks, 3);
    let found: Vec<(u64, Reason)> = letters(&harness)
        .await
        .iter()
        .map(|stored| (stored.letter.number, stored.letter.reason))
        .collect();
    assert_eq!(
        found,
        [
            (2, Reason::Undecodable),
            (3, Reason::OutOfWindow),
            (5, Reason::OutOfWindow),
            (6, Reason::Undecodable),
        ]
    );
    assert_eq!(letters(&harness).await[0].letter.payload.as_ref(), b"\xff\xff\xff");
}

#[tokio::test]
async fn records_of_an_unknown_version_or_without_headers_are_kept_whole() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let click = harness.click(link).encode_to_vec();
    let batch =
        |first| ClickRecord { incarnation: spool, first, clicks: vec![click.clone().into(); 2] };
    let mut later = bus::clicks::encode(&batch(1));
    for (name, value) in &mut later.headers {
        if *name == "version" {
            *value = Bytes::from_static(&[9]);
        }
    }
    harness.produce_raw(0, later.clone()).await;
    harness.produce_raw(0, Record { headers: Vec::new(), ..bus::clicks::encode(&batch(1)) }).await;
    harness
        .produce_raw(
            0,
            Record { value: Bytes::from_static(b"\xff"), ..bus::clicks::encode(&batch(3)) },
        )
        .await;
    harness.produce_raw(0, bus::clicks::encode(&batch(5))).await;
    harness.fold_all(0).await;

    assert_eq!(harness.counted(link).await.clicks, 2, "only the last record counts");
    let letters = letters(&harness).await;
    let found: Vec<(u64, Reason, bool)> = letters
        .iter()
        .map(|stored| {
            (stored.letter.number, stored.letter.reason, stored.letter.incarnation.is_some())
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, Reason::Undecodable, true),
            (1, Reason::UnreadableRecord, false),
            (3, Reason::Undecodable, true),
        ]
    );
    assert!(letters[0].letter.detail.contains("version 9"), "{}", letters[0].letter.detail);
    assert_eq!(letters[0].letter.payload, later.value);
    assert_eq!(
        harness.store.partitions().await.unwrap()[0].lost_clicks,
        0,
        "their numbers count as folded"
    );
}

#[tokio::test]
async fn clicks_of_a_spool_opened_more_than_35_days_before_are_expired() {
    let harness = Harness::new().await;
    let link = Uuid::now_v7();
    let opened = |days: u32| {
        let at: Timestamp = harness.now - days * DAY;
        let seconds = u64::try_from(at.as_second()).unwrap();
        Uuid::new_v7(UuidTimestamp::from_unix(uuid::NoContext, seconds, 0))
    };
    harness.produce(0, opened(36), 1, &[harness.click(link)]).await;
    harness.produce(0, opened(34), 1, &[harness.click(link)]).await;
    harness.fold_all(0).await;
    assert_eq!(harness.counted(link).await.clicks, 1);
    let letters = letters(&harness).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].letter.reason, Reason::Expired);
}

#[tokio::test]
async fn a_click_that_the_store_refuses_is_found_by_halving_and_can_be_folded_later_once() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    // Within the window, but of a month that has no partition: the store refuses the row.
    let mut clicks = vec![harness.click(link); 37];
    let far = harness.now - 200 * DAY;
    clicks.insert(23, harness.click_at(link, far));
    harness.produce(0, spool, 1, &clicks).await;
    harness.fold_all(0).await;
    assert_eq!(harness.counted(link).await.clicks, 37);
    let refused = letters(&harness).await;
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].letter.number, refused[0].letter.reason), (24, Reason::Refused));
    assert!(refused[0].letter.detail.contains("23514"), "{}", refused[0].letter.detail);

    let aggregator = harness.aggregate("a");
    // Asked for with its window: refused again, and still there.
    assert_eq!(harness.store.request_redrive(Some(Reason::Refused), false).await.unwrap(), 1);
    let requested = async || harness.store.requested(0, 10).await.unwrap().len();
    until("the letter was tried", async || requested().await == 0).await;
    assert_eq!(letters(&harness).await[0].redrive_micros, None);
    assert_eq!(harness.counted(link).await.clicks, 37);

    // With its month made, it is folded once, however often it is asked for.
    harness.store.make_months(far, far).await.unwrap();
    for _ in 0..3 {
        harness.store.request_redrive(None, false).await.unwrap();
    }
    until("it is folded", async || letters(&harness).await[0].redrive_micros.is_some()).await;
    assert_eq!(harness.store.request_redrive(None, true).await.unwrap(), 0);
    aggregator.stop().await;
    assert_eq!(harness.counted(link).await.clicks, 38);
}

#[tokio::test]
async fn clicks_out_of_their_window_are_folded_only_if_the_operator_says_so() {
    let harness = Harness::new().await;
    let (spool, link) = (Uuid::now_v7(), Uuid::now_v7());
    let old: Timestamp = harness.now - 500 * DAY;
    harness.produce(2, spool, 1, &[harness.click_at(link, old)]).await;
    harness.fold_all(2).await;
    assert_eq!(harness.store.request_redrive(None, false).await.unwrap(), 0, "left alone");
    assert_eq!(harness.store.request_redrive(None, true).await.unwrap(), 1);
    let aggregator = harness.aggregate("a");
    until("it is folded", async || letters(&harness).await[0].redrive_micros.is_some()).await;
    aggregator.stop().await;
    assert_eq!(harness.counted(link).await.clicks, 1);
}
