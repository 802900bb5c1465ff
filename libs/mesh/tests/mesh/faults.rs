//! Calls that a policy makes fail or wait on purpose.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::reason;
use futures_util::future::join_all;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Status;

async fn get(mesh: &Mesh, headers: &[(&'static str, &'static str)]) -> Result<(), Status> {
    let mut request = Request::new(GetLinkRequest::default());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    LinksServiceClient::new(mesh.clone()).get_link(request).await.map(|_| ())
}

#[tokio::test]
async fn a_share_of_the_calls_fails_without_being_sent() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all", "fault": {"abort": {"code": "UNAVAILABLE", "percent": 30}}}]}"#;
    world.obey(&mesh, policy).await;
    let mut failed = 0;
    for _ in 0..400 {
        if let Err(error) = get(&mesh, &[]).await {
            assert_eq!(
                (error.code(), reason(&error).as_str()),
                (Code::Unavailable, "FAULT_INJECTED")
            );
            failed += 1;
        }
    }
    assert!((60..200).contains(&failed), "{failed} of 400");
    assert_eq!(backend.calls(), 400 - failed, "and none is tried again");
    let stats = mesh.stats();
    let aborted = stats.iter().flat_map(|stats| &stats.events);
    let aborted: u64 =
        aborted.filter(|(event, _)| *event == "mesh_faults_aborted").map(|(_, count)| count).sum();
    assert_eq!(aborted, failed as u64);
}

#[tokio::test]
async fn a_delay_is_within_the_deadline() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all", "fault": {"delay": {"duration": "0.3s", "percent": 100}}}]}"#;
    world.obey(&mesh, policy).await;
    let started = Instant::now();
    get(&mesh, &[]).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    let error = get(&mesh, &[("grpc-timeout", "100m")]).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(backend.calls(), 1, "a call that is late already is not sent");
}

#[tokio::test]
async fn no_more_calls_suffer_at_a_time_than_the_policy_allows() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all",
        "fault": {"delay": {"duration": "1s", "percent": 100}, "active_max": 3}}]}"#;
    world.obey(&mesh, policy).await;
    let timed = (0..20).map(|_| async {
        let started = Instant::now();
        get(&mesh, &[]).await.unwrap();
        started.elapsed() >= Duration::from_secs(1)
    });
    let delayed = join_all(timed).await.into_iter().filter(|delayed| *delayed).count();
    assert_eq!(delayed, 3);
}

#[tokio::test]
async fn a_call_may_ask_for_a_fault_where_the_policy_lets_it() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let asks = [("linkmesh-fault-abort-code", "8")];
    get(&mesh, &asks).await.unwrap();
    let policy = r#"{"routes": [{"name": "all",
        "fault": {"abort": {"code": "UNAVAILABLE", "percent": 100}, "by_header": true}}]}"#;
    world.obey(&mesh, policy).await;
    get(&mesh, &[]).await.unwrap();
    assert_eq!(get(&mesh, &asks).await.unwrap_err().code(), Code::ResourceExhausted);
    // A delay is not among what the policy has.
    get(&mesh, &[("linkmesh-fault-delay-ms", "60000"), ("grpc-timeout", "5S")]).await.unwrap();
    assert_eq!(backend.calls(), 3);
}
