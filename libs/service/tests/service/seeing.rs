//! What an operator sees of an instance, and may do with it.

use std::time::Duration;

use mesh::Mesh;
use proto::mesh::v1::DrainRequest;
use proto::mesh::v1::GetDiagnosisRequest;
use proto::mesh::v1::GetStatsRequest;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::ListRoutesRequest;
use proto::mesh::v1::Stats;
use proto::mesh::v1::TapRequest;
use proto::mesh::v1::UndrainRequest;
use proto::mesh::v1::WatchStatsRequest;
use proto::mesh::v1::endpoint::State;
use proto::mesh::v1::get_diagnosis_response::Registration;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server::SERVICE_NAME;
use proto::mesh::v1::tap_response::What;
use service::Assembly;
use service::Host;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Code;

use crate::hosted::ANY_PORT;
use crate::hosted::Hosted;
use crate::hosted::PATIENCE;
use crate::hosted::config;
use crate::hosted::spawn;

/// Longer than any of these calls takes.
const WAIT: Duration = Duration::from_secs(10);

async fn hosted(folder: &TempDir) -> (Hosted, Mesh, MeshServiceClient<Mesh>) {
    let host = Host::new(config(folder), "1.2.3")
        .add("links", ANY_PORT, |_| async { Ok(Assembly::default()) });
    let hosted = Hosted::ready(host, folder).await;
    let mesh = hosted.operator("links", &[SERVICE_NAME]);
    (hosted, mesh.clone(), MeshServiceClient::new(mesh))
}

async fn stats(client: &mut MeshServiceClient<Mesh>) -> Stats {
    let response = client.get_stats(GetStatsRequest {}).await.unwrap();
    response.into_inner().stats.unwrap()
}

#[tokio::test]
async fn what_an_instance_answered_is_told_with_its_caller_its_code_and_how_long_it_took() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    client.get_stats(GetStatsRequest {}).await.unwrap();
    let stats = stats(&mut client).await;
    assert_eq!((stats.service.as_str(), stats.instance.as_str()), ("links", "1"));
    assert_eq!(stats.spiffe_id, "spiffe://linkmesh/service/links");
    let calls = &stats.inbound[0];
    assert_eq!((calls.caller.as_str(), calls.callee.as_str()), ("operator", "links"));
    assert_eq!(calls.method, "linkmesh.mesh.v1.MeshService/GetStats");
    assert_eq!((calls.codes[0].code, calls.codes[0].count), (0, 1));
    let buckets = &calls.latency.as_ref().unwrap().buckets;
    assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 1);
    mesh.close().await;
    hosted.stop().await.unwrap();
}

#[tokio::test]
async fn a_watcher_is_told_again_and_again_and_does_not_keep_the_instance_from_stopping() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    let period = Duration::from_millis(100).try_into().ok();
    let mut told = client.watch_stats(WatchStatsRequest { period }).await.unwrap().into_inner();
    for _ in 0..3 {
        timeout(WAIT, told.message()).await.unwrap().unwrap().unwrap();
    }
    let too_often = Duration::from_millis(1).try_into().ok();
    let refused = client.watch_stats(WatchStatsRequest { period: too_often }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let begun = tokio::time::Instant::now();
    hosted.stop().await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "the drain waited for the watcher");
    mesh.close().await;
}

#[tokio::test]
async fn an_instance_is_taken_out_of_rotation_and_put_back() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    let registration = async |client: &mut MeshServiceClient<Mesh>| {
        let diagnosis = client.get_diagnosis(GetDiagnosisRequest {}).await.unwrap();
        diagnosis.into_inner().registration()
    };
    assert_eq!(registration(&mut client).await, Registration::Serving);

    let drained = client.drain(DrainRequest {}).await.unwrap().into_inner();
    assert_eq!((drained.instance.as_str(), drained.registry_reached), ("1", true));
    assert_eq!(registration(&mut client).await, Registration::Drained);
    // It still serves, and sees itself leave.
    until_state(&mut client, State::Draining).await;

    let back = client.undrain(UndrainRequest {}).await.unwrap().into_inner();
    assert!(back.registry_reached);
    assert_eq!(registration(&mut client).await, Registration::Serving);
    until_state(&mut client, State::Idle).await;
    mesh.close().await;
    hosted.stop().await.unwrap();
}

async fn until_state(client: &mut MeshServiceClient<Mesh>, state: State) {
    let reached = async {
        loop {
            let request = ListEndpointsRequest { service: "links".to_owned() };
            let endpoints = client.list_endpoints(request).await.unwrap().into_inner().endpoints;
            if endpoints[0].state() == state {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, reached).await.expect("the registry's watchers hear of it");
}

#[tokio::test]
async fn a_diagnosis_tells_clock_certificate_and_registry() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    let diagnosis = client.get_diagnosis(GetDiagnosisRequest {}).await.unwrap().into_inner();
    assert_eq!(diagnosis.version, "1.2.3");
    assert!(diagnosis.now.is_some() && diagnosis.uptime.is_some());
    let certificate = diagnosis.certificate.unwrap();
    assert_eq!(certificate.spiffe_id, "spiffe://linkmesh/service/links");
    assert!(certificate.not_after.unwrap().seconds > certificate.not_before.unwrap().seconds);
    assert_eq!(certificate.roots.len(), 1);
    let registry = diagnosis.registry.unwrap();
    assert_eq!(registry.uri, "memory:");
    assert!(registry.revision > 0 && registry.members.is_empty());
    mesh.close().await;
    hosted.stop().await.unwrap();
}

#[tokio::test]
async fn the_routes_of_a_service_without_a_policy_are_the_defaults() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    let request = || ListRoutesRequest { service: "links".to_owned() };
    let services = client.list_routes(request()).await.unwrap().into_inner().services;
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].revision, services[0].balancing.as_str()), (0, "peak_ewma"));
    let route = &services[0].routes[0];
    assert_eq!((route.name.as_str(), route.attempts_max), ("default", 5));
    mesh.close().await;
    hosted.stop().await.unwrap();
}

#[tokio::test]
async fn a_tap_shows_a_call_decoded_and_ends_with_the_instance() {
    let folder = TempDir::new().unwrap();
    let (hosted, mesh, mut client) = hosted(&folder).await;
    let method = "linkmesh.mesh.v1.MeshService/ListEndpoints".to_owned();
    let request = TapRequest { method, ..TapRequest::default() };
    let mut shown = client.tap(request).await.unwrap().into_inner();
    let mut other = client.clone();
    let called = spawn(async move {
        let request = ListEndpointsRequest { service: "nobody".to_owned() };
        other.list_endpoints(request).await.unwrap();
    });
    let mut messages = Vec::new();
    let code = loop {
        let event = timeout(WAIT, shown.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.instance, "1");
        match event.what.unwrap() {
            What::Begin(begin) => assert_eq!(begin.caller, "operator"),
            What::Message(message) => messages.push(message.json),
            What::End(end) => break end.code,
        }
    };
    called.await.unwrap();
    assert_eq!(code, 0);
    assert!(messages[0].contains(r#""service":"nobody""#), "{messages:?}");
    let wrong = TapRequest { code: Some(17), ..TapRequest::default() };
    assert_eq!(client.tap(wrong).await.unwrap_err().code(), Code::InvalidArgument);

    hosted.stop().await.unwrap();
    mesh.close().await;
}
