//! Instances of which most, or all, have stopped to do their part.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use mesh::EndpointState;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

/// Attempts that end soon, and breakers that stay open for longer than the test takes.
const POLICY: &str = r#"{"health": {"backoff_min": "30s"}, "routes": [{"name": "all",
    "retry": {"per_try_timeout": "0.1s", "backoff_min": "0.001s", "backoff_max": "0.002s"}}]}"#;

async fn get(mesh: &Mesh) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.map(|_| ())
}

fn unhealthy(mesh: &Mesh) -> usize {
    let endpoints = mesh.view().endpoints;
    let unhealthy = |it: &&mesh::EndpointView| matches!(it.state, EndpointState::Unhealthy { .. });
    endpoints.iter().filter(unhealthy).count()
}

fn attempts_in_panic(mesh: &Mesh) -> u64 {
    let stats = mesh.stats();
    let events = stats.iter().flat_map(|stats| &stats.events);
    events.filter(|(event, _)| *event == "mesh_panics").map(|(_, count)| count).sum()
}

/// How many call at a time: more than it takes failures to open a breaker, before anyone knows.
const AT_ONCE: usize = 16;

/// Calls until so many instances are out of use.
async fn call_until_unhealthy(mesh: &Mesh, count: usize) {
    eventually("breakers that open", || async {
        futures_util::future::join_all((0..AT_ONCE).map(|_| get(mesh))).await;
        unhealthy(mesh) == count
    })
    .await;
}

/// Scenario 8 of the fault list.
#[tokio::test(flavor = "multi_thread")]
async fn with_most_out_of_use_all_are_used_and_with_all_the_call_says_so() {
    let world = World::new();
    let mut backends = Vec::new();
    for number in 1..=4 {
        let name = format!("links-{number}");
        backends.push(Backend::start(&world, &name, Behaviour::Answer).await);
    }
    let mesh = world.mesh("edge");
    world.obey(&mesh, POLICY).await;
    eventually("calls to all", || async {
        get(&mesh).await.unwrap();
        backends.iter().all(|it| it.calls() > 0)
    })
    .await;

    // Half of them is enough: those that hang are left alone.
    backends[..2].iter().for_each(|it| it.behave(Behaviour::Hang));
    call_until_unhealthy(&mesh, 2).await;
    let before: usize = backends[..2].iter().map(Backend::calls).sum();
    for _ in 0..50 {
        get(&mesh).await.unwrap();
    }
    assert_eq!(backends[..2].iter().map(Backend::calls).sum::<usize>(), before);
    assert_eq!(attempts_in_panic(&mesh), 0);

    // A quarter is not: rather than to bury the last one, all are used.
    backends[2].behave(Behaviour::Hang);
    call_until_unhealthy(&mesh, 3).await;
    backends[0].behave(Behaviour::Answer);
    let before = backends[0].calls();
    eventually("a call to one that is out of use", || async {
        get(&mesh).await.ok();
        backends[0].calls() > before
    })
    .await;
    assert!(attempts_in_panic(&mesh) > 0);

    // None is left: each call tries all of them once, and names what is wrong before its deadline.
    backends.iter().for_each(|it| it.behave(Behaviour::Hang));
    call_until_unhealthy(&mesh, 4).await;
    eventually("a budget for retries", || async {
        let before: Vec<usize> = backends.iter().map(Backend::calls).collect();
        let started = Instant::now();
        let error = get(&mesh).await.unwrap_err();
        if error.code() == Code::DeadlineExceeded {
            return false;
        }
        assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "ALL_UNHEALTHY"));
        assert!(error.message().contains("`linkmesh.links"), "{}", error.message());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        for (backend, before) in backends.iter().zip(before) {
            assert_eq!(backend.calls(), before + 1, "each is tried once");
        }
        true
    })
    .await;

    // And all that it takes is that they answer again: nobody waits for a breaker of 30 s.
    backends.iter().for_each(|it| it.behave(Behaviour::Answer));
    for _ in 0..50 {
        get(&mesh).await.unwrap();
    }
}
