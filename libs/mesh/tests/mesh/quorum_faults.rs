//! Three etcd servers of which some are lost, and clients that are cut off from them.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::drain::Load;
use crate::drain::Method;
use crate::following::Following;
use crate::naive::Naive;
use crate::servers::Quorum;
use crate::servers::compact;
use crate::servers::etcdctl;
use crate::servers::field;
use crate::servers::lease_of;
use crate::world::eventually;
use crate::world::registration;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use stack::Faults;
use stack::Flow;
use std::time::Duration;
use std::time::Instant;

const SILENT: Faults = Faults { flow: Flow::None, ..Faults::NONE };
/// Longer than a lease of 5 s lives, its owner being silent.
const LEASE_GONE: Duration = Duration::from_secs(7);

fn instances(mesh: &Mesh) -> Vec<String> {
    mesh.view().endpoints.into_iter().map(|view| view.instance.instance).collect()
}

async fn until_instances(mesh: &Mesh, instances_wanted: &[&str]) {
    let what = format!("{instances_wanted:?}");
    eventually(&what, || async { instances(mesh) == instances_wanted }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_leader_lost_no_call_fails_and_news_arrives_all_the_same() {
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let _one = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    until_instances(&mesh, &["links-1"]).await;
    let load = Load::start(&mesh, Method::Create);
    for round in 2..=3 {
        let leader = quorum.cluster.leader().await.unwrap();
        let lost = &quorum.cluster.members()[leader];
        // Once by a crash, once so that its connections end properly: a watch that is closed without an error.
        if round == 2 {
            lost.kill().await;
        } else {
            lost.stop().await;
        }
        let newcomer = Backend::start(world, &format!("links-{round}"), Behaviour::Answer).await;
        eventually("a call to the newcomer", || async { newcomer.calls() > 0 }).await;
        newcomer.leave().await;
        until_instances(&mesh, &["links-1"]).await;
        lost.restart().await.unwrap();
    }
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(!mesh.view().endpoints[0].suspect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_goes_on_and_learns_what_it_missed_without_ghosts() {
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let network = quorum.network().await;
    let leaves = Backend::start(world, "links-1", Behaviour::Answer).await;
    let _stays = Backend::start(world, "links-2", Behaviour::Answer).await;
    let mesh = world.mesh_at(&network.registry, "edge");
    until_instances(&mesh, &["links-1", "links-2"]).await;
    let load = Load::start(&mesh, Method::Create);
    load.for_calls(100).await;

    network.set(SILENT);
    // It says goodbye, and this client alone does not hear it; then even the revision is forgotten.
    leaves.leave().await;
    let comes = Backend::start(world, "links-3", Behaviour::Answer).await;
    let registered = || async { lease_of(&quorum.cluster.members()[0], "links-3").is_some() };
    eventually("the newcomer in etcd", registered).await;
    compact(&quorum.cluster.members()[0]);
    load.for_calls(100).await;
    eventually("silence", || async { mesh.view().age.unwrap() > Duration::from_secs(4) }).await;
    assert_eq!(comes.calls(), 0, "nobody told");

    network.heal();
    until_instances(&mesh, &["links-2", "links-3"]).await;
    eventually("a call to the newcomer", || async { comes.calls() > 0 }).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_went_silent_goes_on_at_another_member() {
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let network = quorum.network().await;
    let following = Following::start(&network.registry);
    following.until_listed().await;
    // Its requests arrive, and nothing comes back: not even that it is lost.
    network.proxies[0].set(Faults { flow: Flow::ToServer, ..Faults::NONE });
    let started = Instant::now();
    let _lease = world.registry.register(registration("links-1", "127.0.0.1:1", &[LINKS]));
    following.until_addresses(LINKS, &["127.0.0.1:1"]).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(network.proxies[1].accepted() > 0);
}

#[tokio::test]
async fn a_compaction_between_list_and_watch_is_noticed() {
    let quorum = Quorum::start().await;
    let network = quorum.network().await;
    let etcd = &quorum.cluster.members()[0];
    let key = format!("linkmesh/endpoints/{LINKS}/links-1");
    let value = |port: u16| {
        format!(
            r#"{{"Op":0,"Addr":"127.0.0.1:{port}","Metadata":{{"service":"links","register_time":"2026-01-02T03:04:05Z"}}}}"#
        )
    };
    etcdctl(etcd, &["put", &key, &value(1)]);
    // The list is on its way back when all that happens, and the watch will be on its way there.
    network.set(Faults { delay: Duration::from_millis(600), ..Faults::NONE });
    let following = Following::start(&network.registry);
    following.until_listed().await;
    for port in 2..5 {
        etcdctl(etcd, &["put", &key, &value(port)]);
    }
    compact(etcd);
    network.heal();
    following.until_addresses(LINKS, &["127.0.0.1:4"]).await;
    let listed = following.history().iter().filter(|line| *line == "listed").count();
    assert_eq!(listed, 2, "the watch was refused, and all listed again: {:?}", following.history());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_leases_run_out_at_once_nobody_is_lost_and_owners_come_back() {
    const BACKENDS: usize = 5;
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let network = quorum.network().await;
    let mut backends = Vec::new();
    for number in 1..=BACKENDS {
        let name = format!("links-{number}");
        backends.push(Backend::start_at(world, &network.registry, &name).await);
    }
    // The caller is not cut off: it sees every one of them go.
    let mesh = world.mesh("edge");
    eventually("all", || async { mesh.view().endpoints.len() == BACKENDS }).await;
    let load = Load::start(&mesh, Method::Create);
    let naive = LinksServiceClient::new(Naive::start(world));
    naive.clone().get_link(GetLinkRequest::default()).await.unwrap();
    network.set(SILENT);
    eventually("that all are suspect", || async {
        let view = mesh.view();
        assert_eq!(view.endpoints.len(), BACKENDS, "all answer");
        view.endpoints.iter().all(|endpoint| endpoint.suspect)
    })
    .await;
    // Who believes the registry has nobody left to call.
    naive.clone().get_link(GetLinkRequest::default()).await.unwrap_err();
    let before: Vec<usize> = backends.iter().map(Backend::calls).collect();
    load.for_calls(500).await;
    for (backend, before) in backends.iter().zip(before) {
        assert!(backend.calls() > before, "each still gets its share");
    }

    network.heal();
    eventually("that none is suspect", || async {
        let view = mesh.view();
        assert_eq!(view.endpoints.len(), BACKENDS);
        view.endpoints.iter().all(|endpoint| !endpoint.suspect)
    })
    .await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn a_lease_whose_stream_died_is_kept_up_by_another() {
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let network = quorum.network().await;
    let _backend = Backend::start_at(world, &network.registry, "links-1").await;
    let etcd = &quorum.cluster.members()[0];
    eventually("the lease", || async { lease_of(etcd, "links-1").is_some() }).await;
    let lease = lease_of(etcd, "links-1");
    let created = field(etcd, "links-1", "CreateRevision");
    let mesh = world.mesh("edge");
    until_instances(&mesh, &["links-1"]).await;
    // Once silently, once with a reset; the process lives and reaches etcd all the time.
    for silently in [true, false] {
        for proxy in &network.proxies {
            if silently {
                proxy.forget();
            } else {
                proxy.reset();
            }
        }
        let until = Instant::now() + LEASE_GONE;
        while Instant::now() < until {
            assert!(!mesh.view().endpoints[0].suspect, "its lease ran out");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(
        (lease_of(etcd, "links-1"), field(etcd, "links-1", "CreateRevision")),
        (lease, created)
    );
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_whoever_comes_and_comes_back_is_found() {
    let quorum = Quorum::start().await;
    let world = &quorum.world;
    let mesh = world.mesh("edge");
    let following = Following::start(&world.registry);
    following.until_listed().await;
    assert!(following.addresses(LINKS).is_empty(), "an empty list is a list");
    let mut client = LinksServiceClient::new(mesh.clone());
    for round in 0..2 {
        let started = Instant::now();
        let error = client.get_link(GetLinkRequest::default()).await.unwrap_err();
        assert_eq!(crate::world::reason(&error), "NO_ENDPOINT", "{round}");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let backend = Backend::start(world, "links-1", Behaviour::Answer).await;
        client.get_link(GetLinkRequest::default()).await.unwrap();
        backend.leave().await;
        until_instances(&mesh, &[]).await;
    }
}
