//! Live clicks: all of them, whichever instance answers, and on from where a watcher left off.

use std::time::Duration;

use proto::analytics::v1::ListDeadLettersRequest;
use proto::analytics::v1::ListPartitionsRequest;
use proto::analytics::v1::RedriveDeadLettersRequest;
use proto::analytics::v1::ResumePartitionRequest;
use proto::analytics::v1::WatchClicksRequest;
use proto::analytics::v1::WatchClicksResponse;
use proto::events::v1::Click;
use tokio::time::timeout;
use tonic::Code;
use tonic::Streaming;
use uuid::Uuid;

use crate::harness::Harness;
use crate::harness::PARTITIONS;
use crate::serving::Api;
use crate::serving::link_name;
use crate::serving::workspace_name;

const DEADLINE: Duration = Duration::from_secs(60);

async fn watch(
    api: &Api,
    harness: &Harness,
    links: &[Uuid],
    resume_token: &str,
) -> Result<Streaming<WatchClicksResponse>, tonic::Status> {
    let request = WatchClicksRequest {
        parent: workspace_name(harness.workspace),
        links: links.iter().map(|link| link_name(harness.workspace, *link)).collect(),
        resume_token: resume_token.to_owned(),
    };
    let answer = api.analytics().watch_clicks(api.by(harness.workspace, request)).await;
    answer.map(tonic::Response::into_inner)
}

async fn next(stream: &mut Streaming<WatchClicksResponse>) -> WatchClicksResponse {
    timeout(DEADLINE, stream.message()).await.expect("in time").unwrap().expect("no end")
}

/// The next `count` clicks' marks (they are their referrers), sorted, and the last token.
async fn clicks(
    stream: &mut Streaming<WatchClicksResponse>,
    count: usize,
) -> (Vec<String>, String) {
    let (mut marks, mut token) = (Vec::new(), String::new());
    while marks.len() < count {
        let message = next(stream).await;
        token = message.resume_token;
        marks.extend(message.click.map(|click| click.referrer));
    }
    marks.sort();
    (marks, token)
}

fn marked(click: Click, mark: usize) -> Click {
    Click { referrer_host: format!("{mark:03}.example").into_bytes(), ..click }
}

fn marks(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|mark| format!("{mark:03}.example")).collect()
}

#[tokio::test]
async fn every_instance_shows_every_click_of_all_partitions() {
    let harness = Harness::new().await;
    let (one, two) = (Api::new(&harness).await, Api::new(&harness).await);
    let link = Uuid::now_v7();
    // Before anyone watches: not shown.
    harness.produce(0, Uuid::now_v7(), 1, &[marked(harness.click(link), 999)]).await;
    let mut streams = Vec::new();
    for api in [&one, &two] {
        let mut stream = watch(api, &harness, &[], "").await.unwrap();
        let first = next(&mut stream).await;
        assert!(first.click.is_none() && !first.resume_token.is_empty(), "a heartbeat comes first");
        streams.push(stream);
    }
    let spool = Uuid::now_v7();
    for mark in 0..40 {
        let partition = u32::try_from(mark).unwrap() % PARTITIONS;
        let number = 1 + mark as u64 / u64::from(PARTITIONS);
        let click = marked(harness.click(link), mark);
        harness.produce(partition, spool, number, std::slice::from_ref(&click)).await;
        // Sent again: shown once.
        harness.produce(partition, spool, number, &[click]).await;
    }
    for stream in &mut streams {
        assert_eq!(clicks(stream, 40).await.0, marks(0..40));
    }
}

#[tokio::test]
async fn a_watcher_sees_only_its_own_links_and_workspace() {
    let harness = Harness::new().await;
    let api = Api::new(&harness).await;
    let (link, other) = (Uuid::now_v7(), Uuid::now_v7());
    let mut stream = watch(&api, &harness, &[link], "").await.unwrap();
    next(&mut stream).await;
    let foreign = Click { workspace_id: vec![3; 16], ..marked(harness.click(link), 1) };
    let others = marked(harness.click(other), 2);
    let own = marked(harness.click(link), 3);
    harness.produce(0, Uuid::now_v7(), 1, &[foreign, others, own]).await;
    let message = next(&mut stream).await;
    let click = message.click.unwrap();
    assert_eq!(click.referrer, "003.example");
    assert_eq!(click.link, link_name(harness.workspace, link));
    assert_eq!((click.browser.as_str(), click.device.as_str()), ("Firefox", "desktop"));
}

#[tokio::test]
async fn a_token_goes_on_at_another_instance_without_a_gap_or_a_repetition() {
    let harness = Harness::new().await;
    let (link, spool) = (Uuid::now_v7(), Uuid::now_v7());
    let api = Api::new(&harness).await;
    let mut stream = watch(&api, &harness, &[], "").await.unwrap();
    let start = next(&mut stream).await.resume_token;
    let produce = async |marks: std::ops::Range<usize>| {
        // Three clicks a record, so that a token may point into one.
        for first in marks.step_by(3) {
            let clicks: Vec<Click> =
                (first..first + 3).map(|mark| marked(harness.click(link), mark)).collect();
            let partition = u32::try_from(first).unwrap() % PARTITIONS;
            harness.produce(partition, spool, 1 + first as u64, &clicks).await;
        }
    };
    produce(0..30).await;
    let (mut seen, mut token) = clicks(&mut stream, 7).await;
    drop(stream);
    produce(30..60).await;
    let elsewhere = Api::new(&harness).await;
    for part in [11, 1, 1, 30] {
        let mut stream = watch(&elsewhere, &harness, &[], &token).await.unwrap();
        let (more, next_token) = clicks(&mut stream, part).await;
        seen.extend(more);
        token = next_token;
    }
    produce(60..63).await;
    let mut stream = watch(&elsewhere, &harness, &[], &token).await.unwrap();
    seen.extend(clicks(&mut stream, 13).await.0);
    seen.sort();
    assert_eq!(seen, marks(0..63));

    let mut stream = watch(&elsewhere, &harness, &[], &start).await.unwrap();
    assert_eq!(clicks(&mut stream, 63).await.0, marks(0..63), "from the first token, all");
    for forged in ["x", "AAAA", &format!("{start}A"), &start[4..]] {
        let refused = watch(&elsewhere, &harness, &[], forged).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{forged}");
        assert!(refused.message().contains("resume_token"));
    }
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_is_told_so() {
    let harness = Harness::new().await;
    let api = Api::new(&harness).await;
    let mut stream = watch(&api, &harness, &[], "").await.unwrap();
    next(&mut stream).await;
    let (link, spool) = (Uuid::now_v7(), Uuid::now_v7());
    let clicks = vec![harness.click(link); 4_000];
    for part in 0..6 {
        harness.produce(0, spool, 1 + part * 4_000, &clicks).await;
    }
    // Not reading meanwhile: once the tail has passed them all, the watcher has been dropped.
    let mut witness = watch(&api, &harness, &[Uuid::now_v7()], "").await.unwrap();
    next(&mut witness).await;
    let refused = loop {
        match timeout(DEADLINE, stream.message()).await.expect("in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn operators_see_partitions_and_letters_and_may_resume_and_redrive() {
    let harness = Harness::new().await;
    let api = Api::new(&harness).await;
    let link = Uuid::now_v7();
    let broken = Click { link_id: vec![1], ..harness.click(link) };
    harness.produce(1, Uuid::now_v7(), 1, &vec![broken; 3]).await;
    harness.fold_all(1).await;

    let listed = api.operator().list_partitions(ListPartitionsRequest {}).await.unwrap();
    let partitions = listed.into_inner().partitions;
    assert_eq!(partitions.len(), PARTITIONS as usize);
    assert_eq!((partitions[1].next_offset, partitions[1].end_offset), (1, 1));

    let page = async |page_token: String| {
        let request = ListDeadLettersRequest { page_size: 2, page_token };
        api.operator().list_dead_letters(request).await.unwrap().into_inner()
    };
    let first = page(String::new()).await;
    let second = page(first.next_page_token).await;
    let numbers = first.dead_letters.iter().chain(&second.dead_letters).map(|letter| letter.number);
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(first.dead_letters[0].reason, "undecodable");
    assert_eq!(second.next_page_token, "");

    let redrive = |reason: &str| RedriveDeadLettersRequest {
        reason: reason.to_owned(),
        ignore_window: false,
    };
    let asked = api.operator().redrive_dead_letters(redrive("undecodable")).await.unwrap();
    assert_eq!(asked.into_inner().requested, 3);
    let refused = api.operator().redrive_dead_letters(redrive("bored")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let resume = async |partition, next_offset| {
        let request = ResumePartitionRequest { partition, next_offset };
        api.operator().resume_partition(request).await.map_err(|status| status.code())
    };
    assert_eq!(resume(99, 0).await.unwrap_err(), Code::NotFound);
    assert_eq!(resume(1, 2).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(resume(1, 0).await.unwrap_err(), Code::FailedPrecondition);
    let epoch = harness.take(1).await;
    assert!(harness.store.halt(1, epoch, "for the test").await.unwrap());
    let resumed = resume(1, 1).await.unwrap().into_inner().partition.unwrap();
    assert_eq!((resumed.halt_reason.as_str(), resumed.next_offset), ("", 1));
}
