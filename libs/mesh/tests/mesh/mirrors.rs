//! Copies of calls that go elsewhere, of which the caller sees nothing.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::eventually;
use mesh::Mesh;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

async fn get(mesh: &Mesh) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest { name: "x".repeat(100) }).await.map(|_| ())
}

fn events(mesh: &Mesh, name: &str) -> u64 {
    let stats = mesh.stats();
    let events = stats.iter().flat_map(|stats| &stats.events);
    events.filter(|(event, _)| *event == name).map(|(_, count)| count).sum()
}

/// An instance that answers, one that gets copies, and a mesh that copies this share.
async fn mirrored(world: &World, shadow: Behaviour, percent: u32) -> (Backend, Backend, Mesh) {
    let main = Backend::start_version(world, "links-1", "1", Behaviour::Answer).await;
    let shadow = Backend::start_version(world, "links-2", "2", shadow).await;
    let mesh = world.mesh("edge");
    let policy = format!(
        r#"{{"subsets": [{{"name": "main", "version": "1"}}, {{"name": "shadow", "version": "2"}}],
            "routes": [{{"name": "all", "split": [{{"subset": "main", "weight": 1}}],
                "mirror": {{"subset": "shadow", "percent": {percent}}}}}]}}"#
    );
    world.obey(&mesh, &policy).await;
    (main, shadow, mesh)
}

#[tokio::test]
async fn a_copy_arrives_whole_and_is_marked() {
    let world = World::new();
    let (main, shadow, mesh) = mirrored(&world, Behaviour::Answer, 100).await;
    let mut client = LinksServiceClient::new(mesh.clone());
    client.create_link(CreateLinkRequest::default()).await.unwrap();
    get(&mesh).await.unwrap();
    eventually("the copies", || async { shadow.calls() == 2 }).await;
    assert_eq!(main.calls(), 2);
    assert_eq!(shadow.seen().metadata.get("linkmesh-mirrored").unwrap(), "true");
    assert!(main.seen().metadata.get("linkmesh-mirrored").is_none());
    assert_eq!(events(&mesh, "mesh_mirrored"), 2);
}

#[tokio::test]
async fn only_the_share_that_the_policy_says_is_copied() {
    let world = World::new();
    let (main, shadow, mesh) = mirrored(&world, Behaviour::Answer, 20).await;
    for _ in 0..500 {
        get(&mesh).await.unwrap();
    }
    let copied = usize::try_from(events(&mesh, "mesh_mirrored")).unwrap();
    assert!((50..170).contains(&copied), "{copied} of 500");
    eventually("the copies", || async { shadow.calls() == copied }).await;
    assert_eq!(main.calls(), 500);
}

#[tokio::test]
async fn a_mirror_that_fails_or_hangs_or_is_gone_is_not_noticed() {
    let world = World::new();
    let (main, shadow, mesh) = mirrored(&world, Behaviour::Fail(Code::Unavailable), 100).await;
    let started = Instant::now();
    for _ in 0..100 {
        get(&mesh).await.unwrap();
    }
    shadow.behave(Behaviour::Hang);
    for _ in 0..100 {
        get(&mesh).await.unwrap();
    }
    shadow.kill().await;
    for _ in 0..300 {
        get(&mesh).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(main.calls(), 500);
    // Those that wait for it are bounded, and end with the mesh.
    let closing = Instant::now();
    mesh.close().await;
    assert!(closing.elapsed() < Duration::from_secs(5), "{:?}", closing.elapsed());
}

#[tokio::test]
async fn no_more_copies_than_a_bound_are_under_way() {
    let world = World::new();
    let (main, shadow, mesh) = mirrored(&world, Behaviour::Hang, 100).await;
    for _ in 0..400 {
        get(&mesh).await.unwrap();
    }
    assert_eq!(main.calls(), 400);
    assert_eq!(events(&mesh, "mesh_mirrored") + events(&mesh, "mesh_mirrors_skipped"), 400);
    assert!(events(&mesh, "mesh_mirrors_skipped") >= 400 - 256);
    assert!(shadow.calls() <= 256, "{}", shadow.calls());
}
