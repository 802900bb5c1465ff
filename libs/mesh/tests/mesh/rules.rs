//! What a service's policy does to the calls that it answers: who is let in, how often, and what goes first when there is too much.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use futures_util::future::join_all;
use mesh::Mesh;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic_types::StatusExt as _;

async fn get(mesh: &Mesh) -> Result<(), Status> {
    LinksServiceClient::new(mesh.clone()).get_link(GetLinkRequest::default()).await.map(|_| ())
}

async fn create(mesh: &Mesh) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.create_link(CreateLinkRequest::default()).await.map(|_| ())
}

/// A call that says how much it matters.
async fn get_as(mesh: &Mesh, criticality: &'static str) -> Result<(), Status> {
    let mut request = Request::new(GetLinkRequest::default());
    request.metadata_mut().insert("linkmesh-criticality", criticality.parse().unwrap());
    LinksServiceClient::new(mesh.clone()).get_link(request).await.map(|_| ())
}

#[tokio::test]
async fn a_rule_keeps_a_caller_from_a_method_and_lets_another_in_without_a_restart() {
    let world = World::new();
    let mut metrics = Metrics::default();
    let backend = Backend::obeying(&world, "links-1", Behaviour::Answer, &mut metrics).await;
    let (edge, billing) = (world.mesh("edge"), world.mesh("billing"));
    create(&edge).await.unwrap();
    assert_eq!(get(&billing).await.unwrap_err().code(), Code::PermissionDenied);
    world
        .apply(
            r#"{"service": "links", "authorizations": [
                {"name": "billing-reads", "action": "ACTION_ALLOW", "callers": ["billing"],
                 "methods": ["linkmesh.links.v1.LinksService/GetLink"]},
                {"name": "edge-creates-nothing", "action": "ACTION_DENY", "callers": ["edge"],
                 "methods": ["linkmesh.links.v1.LinksService/CreateLink"]}]}"#,
        )
        .await;
    eventually("the rule", || async { get(&billing).await.is_ok() }).await;
    let before = backend.calls();
    let denied = create(&edge).await.unwrap_err();
    assert_eq!(
        (denied.code(), reason(&denied).as_str()),
        (Code::PermissionDenied, "PEER_NOT_ALLOWED")
    );
    let said = denied.message();
    for part in ["`edge`", "CreateLink", "`edge-creates-nothing`"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(backend.calls(), before);
    create(&billing).await.unwrap_err();
    get(&edge).await.unwrap();

    // It is counted as what it is, and no instance is worse for it.
    for _ in 0..50 {
        create(&edge).await.unwrap_err();
    }
    get(&edge).await.unwrap();
    let mut page = String::new();
    encode(&mut page, &metrics).unwrap();
    let denied = page.lines().find(|line| {
        line.starts_with("mesh_server_requests_total")
            && ["\"edge\"", "CreateLink", "PermissionDenied"].iter().all(|it| line.contains(it))
    });
    assert!(denied.is_some_and(|line| line.ends_with(" 51")), "{denied:?}");
}

#[tokio::test]
async fn a_rule_that_only_reports_denies_nothing_and_is_counted() {
    let world = World::new();
    let mut metrics = Metrics::default();
    let _backend = Backend::obeying(&world, "links-1", Behaviour::Answer, &mut metrics).await;
    let edge = world.mesh("edge");
    world
        .apply(
            r#"{"service": "links", "authorizations": [
                {"name": "try", "action": "ACTION_DENY", "callers": ["*"], "dry_run": true,
                 "methods": ["linkmesh.links.v1.LinksService/*"]}]}"#,
        )
        .await;
    let reported = || async {
        get(&edge).await.unwrap();
        let mut page = String::new();
        encode(&mut page, &metrics).unwrap();
        page.lines().any(|line| {
            line.starts_with("mesh_server_authorization_dry_run_total")
                && ["rule=\"try\"", "caller=\"edge\"", "GetLink", "decision=\"deny\""]
                    .iter()
                    .all(|part| line.contains(part))
        })
    };
    eventually("a report", reported).await;
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_when_to_come_back_and_others_are_not_hit() {
    let world = World::new();
    let backend =
        Backend::obeying(&world, "links-1", Behaviour::Answer, &mut Metrics::default()).await;
    let (edge, analytics) = (world.mesh("edge"), world.mesh("analytics"));
    get(&edge).await.unwrap();
    world
        .apply(
            r#"{"service": "links", "rate_limits": [
                {"name": "slow-down", "calls": 3, "burst": 3, "per": "60s",
                 "match": {"method": "linkmesh.links.v1.LinksService/GetLink"}}]}"#,
        )
        .await;
    eventually("the limit", || async { get(&edge).await.is_err() }).await;
    let before = backend.calls();
    let limited = get(&edge).await.unwrap_err();
    assert_eq!(
        (limited.code(), reason(&limited).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    let wait = limited.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(20), "{wait:?}");
    let pushback = limited.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    assert!(pushback.parse::<u64>().unwrap() > 1_000);
    assert_eq!(backend.calls(), before, "and it was not tried again");
    // The same method by someone else, and another one by the same.
    for _ in 0..3 {
        get(&analytics).await.unwrap();
    }
    get(&analytics).await.unwrap_err();
    for _ in 0..10 {
        create(&edge).await.unwrap();
    }
}

#[tokio::test]
async fn what_matters_least_is_refused_first() {
    let world = World::new();
    let backend =
        Backend::obeying(&world, "links-1", Behaviour::Hang, &mut Metrics::default()).await;
    world.apply(r#"{"service": "links", "concurrency": {"calls_max": 10, "calls_min": 1}}"#).await;
    let edge = world.mesh("edge");
    eventually("the policy", || async { edge.policies().get("links").is_some() }).await;
    let let_in = |criticality, calls: usize| {
        let edge = edge.clone();
        async move {
            let calls = (0..calls).map(|_| async {
                // Those that are let in hang.
                let waited = Duration::from_millis(500);
                tokio::time::timeout(waited, get_as(&edge, criticality)).await.is_err()
            });
            join_all(calls).await.into_iter().filter(|let_in| *let_in).count()
        }
    };
    assert_eq!(let_in("sheddable", 20).await, 5);
    eventually("their end", || async { backend.under_way() == 0 }).await;
    assert_eq!(let_in("normal", 20).await, 9);
    eventually("their end", || async { backend.under_way() == 0 }).await;
    assert_eq!(let_in("critical", 20).await, 10);
    assert_eq!(backend.calls(), 24);
}
