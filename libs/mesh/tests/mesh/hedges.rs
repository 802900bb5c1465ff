//! Second attempts while the first is under way.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::eventually;
use futures_util::future::join_all;
use mesh::Mesh;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Status;

async fn get(mesh: &Mesh) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.map(|_| ())
}

fn events(mesh: &Mesh, name: &str) -> u64 {
    let stats = mesh.stats();
    let events = stats.iter().flat_map(|stats| &stats.events);
    events.filter(|(event, _)| *event == name).map(|(_, count)| count).sum()
}

const AFTER_100_MS: &str = r#"{"routes": [{"name": "all", "hedge": {"delay": "0.1s"}}]}"#;

#[tokio::test]
async fn a_call_that_takes_long_goes_to_another_endpoint_too_and_the_loser_is_cancelled() {
    let world = World::new();
    let good = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let hangs = Backend::start(&world, "links-2", Behaviour::Hang).await;
    let mesh = world.mesh("edge");
    world.obey(&mesh, AFTER_100_MS).await;
    eventually("both", || async { mesh.view().endpoints.len() == 2 }).await;
    let started = Instant::now();
    let mut calls = 0;
    while calls < 20 || hangs.calls() == 0 {
        get(&mesh).await.unwrap();
        calls += 1;
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert_eq!(good.calls(), calls);
    let hedges = events(&mesh, "mesh_hedges");
    assert_eq!(hedges, hangs.calls() as u64);
    assert_eq!(events(&mesh, "mesh_hedges_won"), hedges);
    eventually("the losers' end", || async { hangs.under_way() == 0 }).await;
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not_hedged() {
    let world = World::new();
    let hang = [
        Backend::start(&world, "links-1", Behaviour::Hang).await,
        Backend::start(&world, "links-2", Behaviour::Hang).await,
    ];
    let mesh = world.mesh("edge");
    world.obey(&mesh, AFTER_100_MS).await;
    let mut request = Request::new(CreateLinkRequest::default());
    request.set_timeout(Duration::from_millis(500));
    let error = LinksServiceClient::new(mesh).create_link(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(hang[0].calls() + hang[1].calls(), 1);
}

#[tokio::test]
async fn without_another_endpoint_there_is_no_hedge() {
    let world = World::new();
    let slow =
        Backend::start(&world, "links-1", Behaviour::AnswerAfter(Duration::from_millis(300)));
    let slow = slow.await;
    let mesh = world.mesh("edge");
    world.obey(&mesh, AFTER_100_MS).await;
    get(&mesh).await.unwrap();
    assert_eq!((slow.calls(), events(&mesh, "mesh_hedges")), (1, 0));
}

#[tokio::test]
async fn a_hedge_is_sent_when_a_call_takes_longer_than_most_do() {
    let world = World::new();
    let backends = [
        Backend::start(&world, "links-1", Behaviour::Answer).await,
        Backend::start(&world, "links-2", Behaviour::Answer).await,
    ];
    let mesh = world.mesh("edge");
    // In turn, so that the one that hangs has its share of first attempts.
    let policy = r#"{"balancing": {"algorithm": "ALGORITHM_ROUND_ROBIN"},
        "routes": [{"name": "all", "hedge": {"percentile": 95}}]}"#;
    world.obey(&mesh, policy).await;
    for _ in 0..10 {
        get(&mesh).await.unwrap();
    }
    assert_eq!(events(&mesh, "mesh_hedges"), 0, "nothing is known yet");
    for _ in 0..90 {
        get(&mesh).await.unwrap();
    }
    backends[0].behave(Behaviour::Hang);
    let before = backends[0].calls();
    let started = Instant::now();
    // It may have looked slow for a moment before, and be avoided for some seconds.
    while backends[0].calls() == before {
        get(&mesh).await.unwrap();
        assert!(started.elapsed() < PATIENCE, "it was not tried");
    }
    assert!(events(&mesh, "mesh_hedges_won") >= 1);
}

#[tokio::test]
async fn a_hedge_that_could_not_answer_in_time_is_not_sent() {
    let world = World::new();
    let slow = Behaviour::AnswerAfter(Duration::from_millis(300));
    let backends = [
        Backend::start(&world, "links-1", slow).await,
        Backend::start(&world, "links-2", slow).await,
    ];
    let mesh = world.mesh("edge");
    // What is usual is 300 ms: a hedge at that time leaves 100 ms of a deadline of 400 ms.
    let policy = r#"{"routes": [{"name": "all", "hedge": {"percentile": 50, "delay": "0.1s"}}]}"#;
    world.obey(&mesh, policy).await;
    join_all((0..30).map(|_| get(&mesh))).await;
    let before = events(&mesh, "mesh_hedges");
    for backend in &backends {
        backend.behave(Behaviour::Hang);
    }
    let mut request = Request::new(GetLinkRequest::default());
    request.set_timeout(Duration::from_millis(400));
    let error = LinksServiceClient::new(mesh.clone()).get_link(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(events(&mesh, "mesh_hedges"), before);
}

#[tokio::test]
async fn a_server_that_pushes_back_is_spared_hedges() {
    let world = World::new();
    let backends = [
        Backend::start(&world, "links-1", Behaviour::PushBack("-1")).await,
        Backend::start(&world, "links-2", Behaviour::PushBack("-1")).await,
    ];
    let mesh = world.mesh("edge");
    world.obey(&mesh, AFTER_100_MS).await;
    assert_eq!(get(&mesh).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(backends[0].calls() + backends[1].calls(), 1);
}

#[tokio::test]
async fn retries_and_hedges_together_stay_within_one_budget() {
    let world = World::new();
    let slow = Behaviour::AnswerAfter(Duration::from_millis(20));
    let backends = [
        Backend::start(&world, "links-1", slow).await,
        Backend::start(&world, "links-2", slow).await,
        Backend::start(&world, "links-3", Behaviour::Fail(Code::Unavailable)).await,
    ];
    let mesh = world.mesh("edge");
    let policy =
        r#"{"routes": [{"name": "all", "hedge": {"delay": "0.001s", "attempts_max": 3}}]}"#;
    world.obey(&mesh, policy).await;
    let (calls, callers) = (1_000, 20);
    let started = Instant::now();
    join_all((0..callers).map(|_| async {
        for _ in 0..calls / callers {
            get(&mesh).await.ok();
        }
    }))
    .await;
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("a test is short") + 10;
    let allowed = calls + calls / 5 + 10 * (seconds + 1);
    let sent: usize = backends.iter().map(Backend::calls).sum();
    assert!(sent <= allowed, "{sent} sent, {allowed} allowed");
    assert!(sent > calls && events(&mesh, "mesh_budget_exhausted") > 0, "and some are");
}
