//! etcd killed, frozen, compacted, emptied: calls go on, and all is found again.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::drain::Load;
use crate::drain::Method;
use crate::following::Following;
use crate::servers::Servers;
use crate::servers::compact;
use crate::world::eventually;
use crate::world::registration;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn with_etcd_killed_calls_go_on_and_a_newcomer_is_found_after_its_return() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _one = Backend::start(world, "links-1", Behaviour::Answer).await;
    let two = Backend::start(world, "links-2", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    eventually("both", || async { mesh.view().endpoints.len() == 2 }).await;
    let load = Load::start(&mesh, Method::Get);
    load.for_calls(100).await;

    servers.etcd.kill().await;
    load.for_calls(100).await;
    two.kill().await;
    load.for_calls(100).await;
    // Registering does not wait for etcd.
    let started = Instant::now();
    let three = Backend::start(world, "links-3", Behaviour::Answer).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    servers.etcd.restart().await.unwrap();
    eventually("the newcomer", || async {
        mesh.view().endpoints.iter().any(|view| view.instance.instance == "links-3")
    })
    .await;
    eventually("a call to it", || async { three.calls() > 0 }).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_etcd_frozen_until_leases_ran_out_nobody_is_lost() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _one = Backend::start(world, "links-1", Behaviour::Answer).await;
    let _two = Backend::start(world, "links-2", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    eventually("both", || async { mesh.view().endpoints.len() == 2 }).await;
    let before = mesh.view().revision;
    let load = Load::start(&mesh, Method::Create);
    servers.etcd.freeze().await;
    eventually("silence", || async { mesh.view().age.unwrap() > Duration::from_secs(7) }).await;
    servers.etcd.thaw().await;
    eventually("news", || async { mesh.view().age.unwrap() < Duration::from_secs(2) }).await;
    eventually("both, and nobody suspect", || async {
        let view = mesh.view();
        view.revision > before
            && view.endpoints.len() == 2
            && view.endpoints.iter().all(|endpoint| !endpoint.suspect)
    })
    .await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn changes_that_were_compacted_away_meanwhile_are_seen() {
    let servers = Servers::start().await;
    let registry = &servers.world.registry;
    let following = Following::start(registry);
    let lease = registry.register(registration("links-1", "127.0.0.1:1", &[LINKS]));
    following.until_addresses(LINKS, &["127.0.0.1:1"]).await;

    servers.etcd.kill().await;
    drop(lease);
    servers.etcd.restart().await.unwrap();
    let key = format!("linkmesh/endpoints/{LINKS}/links-2");
    let value = r#"{"Op":0,"Addr":"127.0.0.1:2","Metadata":{"service":"links","register_time":"2026-01-02T03:04:05Z"}}"#;
    for _ in 0..10 {
        servers.etcdctl(&["put", &key, value]);
    }
    compact(&servers.etcd);
    following.until_addresses(LINKS, &["127.0.0.1:2"]).await;
}

#[tokio::test]
async fn a_lost_lease_is_replaced_and_its_instance_never_gone() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.unwrap();
    let before = servers.lease_of("links-1").unwrap();
    servers.etcdctl(&["lease", "revoke", &format!("{before:x}")]);
    eventually("another lease", || async {
        assert_eq!(mesh.view().endpoints.len(), 1);
        servers.lease_of("links-1").is_some_and(|lease| lease != before)
    })
    .await;
    eventually("trust", || async { !mesh.view().endpoints[0].suspect }).await;
    client.get_link(GetLinkRequest::default()).await.unwrap();
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_filled_again() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.unwrap();
    for number in 0..50 {
        servers.etcdctl(&["put", "something/else", &number.to_string()]);
    }
    eventually("the revision", || async { mesh.view().revision > 50 }).await;
    servers.etcd.kill().await;
    std::fs::remove_dir_all(servers.folder.path().join("data")).unwrap();
    servers.etcd.restart().await.unwrap();
    let following = Following::start(&world.registry);
    eventually("the instance", || async { following.addresses(LINKS).len() == 1 }).await;
    eventually("the lower revision", || async {
        assert_eq!(mesh.view().endpoints.len(), 1);
        mesh.view().revision < 50 && !mesh.view().endpoints[0].suspect
    })
    .await;
    client.get_link(GetLinkRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_process_that_starts_without_etcd_serves_from_its_snapshot() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let snapshot = world.file("edge/mesh.json");
    let start =
        || world.mesh_with(world.identity("edge"), Some(snapshot.clone()), &mut Metrics::default());
    let before = start();
    eventually("the instance", || async { before.view().endpoints.len() == 1 }).await;
    before.close().await;

    servers.etcd.kill().await;
    let after = start();
    assert_eq!(after.view().revision, 0);
    assert!(after.view().age.is_none());
    LinksServiceClient::new(after.clone()).get_link(GetLinkRequest::default()).await.unwrap();
    servers.etcd.restart().await.unwrap();
    eventually("etcd's word", || async { after.view().revision > 0 }).await;
    assert_eq!(after.view().endpoints.len(), 1);
}

#[tokio::test]
async fn an_etcd_that_is_away_delays_no_start_and_no_stop() {
    let servers = Servers::start().await;
    servers.etcd.kill().await;
    let started = Instant::now();
    let backend = Backend::start(&servers.world, "links-1", Behaviour::Answer).await;
    let mesh = servers.world.mesh("edge");
    backend.leave().await;
    mesh.close().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_someone_else_wrote_wrongly_hides_nobody() {
    let servers = Servers::start().await;
    let registry = &servers.world.registry;
    let prefix = "linkmesh/endpoints/";
    for (key, value) in [("", "x"), ("a.A", "x"), ("a.A/i", "{"), ("a.A/j", "null"), ("//", "")] {
        servers.etcdctl(&["put", &format!("{prefix}{key}"), value]);
    }
    let following = Following::start(registry);
    let _lease = registry.register(registration("links-1", "127.0.0.1:1", &["a.A"]));
    following.until_addresses("a.A", &["127.0.0.1:1"]).await;
    servers.etcdctl(&["put", &format!("{prefix}a.A/k"), "\u{1}"]);
    let revision = following.revision();
    eventually("that it goes on", || async { following.revision() > revision }).await;
    assert_eq!(following.addresses("a.A"), ["127.0.0.1:1"]);
}
