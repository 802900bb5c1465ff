//! What the calls answer, through the generated client.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proto::analytics::v1::BreakDownClicksRequest;
use proto::analytics::v1::CountClicksRequest;
use proto::analytics::v1::Dimension;
use proto::analytics::v1::IntervalLength;
use proto::analytics::v1::ListClickIntervalsRequest;
use proto::analytics::v1::WatchClicksRequest;
use proto::events::v1::Click;
use proto::events::v1::ClickMethod;
use tonic::Code;
use uuid::Uuid;

use crate::harness::Harness;
use crate::serving::Api;
use crate::serving::link_name;
use crate::serving::time;
use crate::serving::workspace_name;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// A moment yesterday, at a full hour of UTC.
fn base(harness: &Harness) -> Timestamp {
    let day = harness.now.as_second().div_euclid(86_400) - 1;
    Timestamp::from_second(day * 86_400 + 10 * 3_600).unwrap()
}

fn visitor(click: Click, number: u64) -> Click {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Click { visitor_hash: mixed.to_be_bytes().to_vec(), ..click }
}

#[tokio::test]
async fn counts_are_exact_to_the_minute_and_tell_people_from_bots() {
    let harness = Harness::new().await;
    let (link, other, at) = (Uuid::now_v7(), Uuid::now_v7(), base(&harness));
    let mut clicks = Vec::new();
    for minute in 0..60u32 {
        clicks.push(visitor(harness.click_at(link, at + minute * MINUTE), u64::from(minute)));
    }
    let head =
        Click { method: ClickMethod::Head.into(), ..harness.click_at(link, at + 7 * MINUTE) };
    clicks.push(head);
    clicks.push(visitor(harness.click_at(other, at + 8 * MINUTE), 1_000));
    harness.produce(0, Uuid::now_v7(), 1, &clicks).await;
    harness.produce(1, Uuid::now_v7(), 1, &clicks[..1]).await;
    harness.fold_all(0).await;
    harness.fold_all(1).await;

    let api = Api::new(&harness).await;
    let count = async |links: &[Uuid], from: u32, until: u32| {
        let request = CountClicksRequest {
            parent: workspace_name(harness.workspace),
            links: links.iter().map(|link| link_name(harness.workspace, *link)).collect(),
            start_time: time(at + from * MINUTE),
            end_time: time(at + until * MINUTE),
        };
        let answer = api.analytics().count_clicks(api.by(harness.workspace, request)).await;
        let counts = answer.unwrap().into_inner().counts.unwrap();
        (counts.clicks, counts.bot_clicks, counts.unique_visitors)
    };
    assert_eq!(count(&[], 0, 60).await, (62, 1, 61));
    assert_eq!(count(&[link], 0, 60).await, (61, 1, 60));
    assert_eq!(count(&[link, other], 0, 60).await, (62, 1, 61));
    assert_eq!(
        count(&[link], 7, 8).await,
        (1, 1, 15),
        "visitors of the quarter hours that are cut"
    );
    assert_eq!(count(&[link], 13, 47).await.0, 34);
    assert_eq!(count(&[link], 60, 60).await, (0, 0, 0));
    assert_eq!(count(&[Uuid::now_v7()], 0, 60).await, (0, 0, 0));
}

#[tokio::test]
async fn a_series_follows_the_clock_of_its_zone_and_has_no_gaps() {
    let harness = Harness::new().await;
    let (link, at) = (Uuid::now_v7(), base(&harness));
    // 10:14:59 and 10:15 UTC are 15:59:59 and 16:00 in Kathmandu.
    let moments = [at + 15 * MINUTE - Duration::from_secs(1), at + 15 * MINUTE, at + 3 * HOUR];
    let clicks: Vec<Click> = (0..)
        .zip(moments)
        .map(|(number, at)| visitor(harness.click_at(link, at), number))
        .collect();
    harness.produce(0, Uuid::now_v7(), 1, &clicks).await;
    harness.fold_all(0).await;
    let api = Api::new(&harness).await;
    let series = async |length: IntervalLength, zone: &str, from: Timestamp, until: Timestamp| {
        let request = ListClickIntervalsRequest {
            parent: workspace_name(harness.workspace),
            start_time: time(from),
            end_time: time(until),
            length: length.into(),
            time_zone: zone.to_owned(),
            ..Default::default()
        };
        let answer = api.analytics().list_click_intervals(api.by(harness.workspace, request)).await;
        let intervals = answer.unwrap().into_inner().intervals;
        intervals.into_iter().map(|interval| interval.counts.unwrap()).collect::<Vec<_>>()
    };
    let clicks = |counts: &[proto::analytics::v1::ClickCounts]| -> Vec<i64> {
        counts.iter().map(|counts| counts.clicks).collect()
    };
    let end = at + 3 * HOUR + MINUTE;
    let hours = series(IntervalLength::Hour, "Asia/Kathmandu", at, end).await;
    assert_eq!(clicks(&hours), [1, 1, 0, 1]);
    assert_eq!(hours[0].unique_visitors, 1);
    assert_eq!(clicks(&series(IntervalLength::Hour, "", at, end).await), [2, 0, 0, 1]);
    let days = series(IntervalLength::Day, "Asia/Kolkata", at, end).await;
    assert_eq!((clicks(&days), days[0].unique_visitors), (vec![3], 3));
    let minutes = series(IntervalLength::Minute, "UTC", at + 14 * MINUTE, at + 17 * MINUTE).await;
    assert_eq!(clicks(&minutes), [1, 1, 0]);
    assert_eq!(minutes[0].unique_visitors, 0);
}

#[tokio::test]
async fn a_breakdown_pages_through_thousands_of_links_each_once() {
    let harness = Harness::new().await;
    let at = base(&harness);
    let links: Vec<Uuid> = (0..2_500).map(|_| Uuid::now_v7()).collect();
    let mut clicks: Vec<Click> = links.iter().map(|link| harness.click_at(*link, at)).collect();
    clicks.extend((0..40).map(|number| visitor(harness.click_at(links[7], at), number)));
    harness.produce(0, Uuid::now_v7(), 1, &clicks).await;
    harness.produce(1, Uuid::now_v7(), 1, &clicks[..100]).await;
    harness.fold_all(0).await;
    harness.fold_all(1).await;
    let api = Api::new(&harness).await;
    let mut request = BreakDownClicksRequest {
        parent: workspace_name(harness.workspace),
        dimension: Dimension::Link.into(),
        page_size: 1_000,
        ..Default::default()
    };
    let mut seen = BTreeMap::new();
    let mut sizes = Vec::new();
    loop {
        let asked = api.by(harness.workspace, request.clone());
        let page = api.analytics().break_down_clicks(asked).await.unwrap().into_inner();
        sizes.push(page.shares.len());
        for share in page.shares {
            let counts = share.counts.unwrap();
            assert!(seen.insert(share.value, (counts.clicks, counts.unique_visitors)).is_none());
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(seen[&link_name(harness.workspace, links[7])], (42, 41));
    assert_eq!(seen[&link_name(harness.workspace, links[99])], (2, 1));
    assert_eq!(seen[&link_name(harness.workspace, links[100])], (1, 1));
    assert_eq!(seen.values().map(|(clicks, _)| clicks).sum::<i64>(), 2_640);
}

#[tokio::test]
async fn dimensions_are_broken_down_most_clicks_first_and_page_by_page() {
    let harness = Harness::new().await;
    let link = Uuid::now_v7();
    let from = |country: &str, count: usize| {
        vec![
            Click { country: country.to_owned(), city: String::new(), ..harness.click(link) };
            count
        ]
    };
    let curl = Click { user_agent: b"curl/8.0".to_vec(), ..from("SE", 1).remove(0) };
    let clicks = [from("SE", 3), from("DE", 5), from("", 2), from("AT", 3), vec![curl]].concat();
    harness.produce(0, Uuid::now_v7(), 1, &clicks).await;
    harness.fold_all(0).await;
    let api = Api::new(&harness).await;
    let page = async |dimension: Dimension, page_size: i32, page_token: &str| {
        let request = BreakDownClicksRequest {
            parent: workspace_name(harness.workspace),
            dimension: dimension.into(),
            page_size,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        let answer = api.analytics().break_down_clicks(api.by(harness.workspace, request)).await;
        let answer = answer.unwrap().into_inner();
        let shares = answer.shares.into_iter().map(|share| {
            let counts = share.counts.unwrap();
            (share.value, counts.clicks, counts.bot_clicks)
        });
        (shares.collect::<Vec<_>>(), answer.next_page_token)
    };
    let share = |value: &str, clicks, bots| (value.to_owned(), clicks, bots);
    let (first, token) = page(Dimension::Country, 2, "").await;
    assert_eq!(first, [share("DE", 5, 0), share("SE", 3, 1)]);
    let (second, token) = page(Dimension::Country, 2, &token).await;
    assert_eq!(second, [share("AT", 3, 0), share("", 2, 0)]);
    assert_eq!(token, "");
    assert_eq!(page(Dimension::BotReason, 0, "").await.0, [share("user_agent", 0, 1)]);
    let (browsers, _) = page(Dimension::Browser, 0, "").await;
    assert_eq!(browsers, [share("Firefox", 13, 0), share("curl", 0, 1)]);
}

#[tokio::test]
async fn another_workspace_and_what_is_malformed_are_refused_by_name() {
    let harness = Harness::new().await;
    let api = Api::new(&harness).await;
    let (own, other) = (harness.workspace, Uuid::now_v7());
    let code = |status: tonic::Status| status.code();
    let count = async |parent: String, links: Vec<String>| {
        let request = CountClicksRequest { parent, links, ..Default::default() };
        api.analytics().count_clicks(api.by(own, request)).await.map(drop)
    };
    let codes: BTreeSet<i32> = [
        count(workspace_name(other), vec![]).await,
        count(workspace_name(own), vec![link_name(other, Uuid::now_v7())]).await,
    ]
    .into_iter()
    .map(|refused| code(refused.unwrap_err()) as i32)
    .collect();
    assert_eq!(codes, BTreeSet::from([Code::NotFound as i32]));
    let others = workspace_name(other);
    let series = ListClickIntervalsRequest { parent: others.clone(), ..Default::default() };
    let refused = api.analytics().list_click_intervals(api.by(own, series)).await;
    assert_eq!(code(refused.unwrap_err()), Code::NotFound);
    let breakdown =
        BreakDownClicksRequest { parent: others.clone(), dimension: 1, ..Default::default() };
    let refused = api.analytics().break_down_clicks(api.by(own, breakdown)).await;
    assert_eq!(code(refused.unwrap_err()), Code::NotFound);
    let watch = WatchClicksRequest { parent: others, ..Default::default() };
    let refused = api.analytics().watch_clicks(api.by(own, watch)).await;
    assert_eq!(refused.err().map(code), Some(Code::NotFound));

    let many = vec![link_name(own, Uuid::now_v7()); 101];
    let refused = count(workspace_name(own), many).await.unwrap_err();
    assert!(refused.message().contains("100"), "{}", refused.message());
    let zone = ListClickIntervalsRequest {
        parent: workspace_name(own),
        time_zone: "Mars/Base".to_owned(),
        ..Default::default()
    };
    let refused = api.analytics().list_click_intervals(api.by(own, zone)).await.unwrap_err();
    assert!(refused.message().contains("time_zone"), "{}", refused.message());
    let long = ListClickIntervalsRequest {
        parent: workspace_name(own),
        start_time: time(harness.now - 24 * 30 * HOUR),
        length: IntervalLength::Minute.into(),
        ..Default::default()
    };
    let refused = api.analytics().list_click_intervals(api.by(own, long)).await.unwrap_err();
    assert!(refused.message().contains("10,000"), "{}", refused.message());
    let token = BreakDownClicksRequest {
        parent: workspace_name(own),
        dimension: 1,
        page_token: "forged".to_owned(),
        ..Default::default()
    };
    let refused = api.analytics().break_down_clicks(api.by(own, token)).await.unwrap_err();
    assert_eq!(code(refused), Code::InvalidArgument);
}
