//! Policies as operators and callers see them: both registries under one suite, a bad update, many updates, etcd under faults.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::drain::Load;
use crate::drain::Method;
use crate::servers::Servers;
use crate::servers::compact;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::eventually;
use futures_util::future::join_all;
use jiff::Timestamp;
use mesh::Mesh;
use mesh::Registry;
use mesh::policy::Authorship;
use mesh::policy::Policies;
use mesh::policy::PolicySet;
use mesh::policy::read_yaml;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use proto::mesh::v1::ServicePolicy;
use stack::Etcd;
use stack::Options;
use stack::TemporaryFolder;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;

fn by(author: &str) -> Authorship {
    Authorship {
        author: author.to_owned(),
        note: "as the test says".to_owned(),
        now: Timestamp::now(),
    }
}

/// One that differs from the others by a number.
fn numbered(service: &str, number: u32) -> ServicePolicy {
    read_yaml(&format!("service: {service}\nconcurrency: {{calls_max: {number}}}")).unwrap()
}

/// One that fails every call of `edge` with a code.
fn failing(code: &str) -> ServicePolicy {
    let yaml = format!(
        "service: links\nroutes: [{{name: fail, fault: {{abort: {{code: {code}, percent: 100}}}}}}]"
    );
    read_yaml(&yaml).unwrap()
}

async fn call(mesh: &Mesh) -> Code {
    let mut client = LinksServiceClient::new(mesh.clone());
    match client.get_link(GetLinkRequest { name: "x".to_owned() }).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

async fn until_calls_answer(mesh: &Mesh, code: Code) {
    eventually(&format!("{code:?}"), || async { call(mesh).await == code }).await;
}

async fn what_is_applied_is_in_force_and_the_same_again_changes_nothing(policies: &Policies) {
    let first = policies.apply(numbered("once", 10), None, &by("operator")).await.unwrap();
    assert_eq!((first.revision, first.author.as_str()), (1, "operator"));
    let again = policies.apply(numbered("once", 10), None, &by("another")).await.unwrap();
    assert_eq!(again, first);
    let second = policies.apply(numbered("once", 20), None, &by("another")).await.unwrap();
    assert_eq!(second.revision, 2);
    let listed = policies.list().await.unwrap();
    let stored = listed.iter().find(|stored| stored.service == "once").unwrap();
    assert_eq!((stored.record.as_ref(), stored.problem.as_ref()), (Some(&second), None));
    assert_eq!(policies.history("once").await.unwrap(), [second, first]);
    assert!(policies.history("never").await.unwrap().is_empty());
}

async fn what_is_wrong_is_refused_by_field_and_stores_nothing(policies: &Policies) {
    let error = policies.apply(numbered("wrong", 1_000_000), None, &by("a")).await.unwrap_err();
    assert_eq!((error.code, error.reason_text()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(error.violations[0].field, "concurrency.calls_max");
    let note = Authorship { note: "ß".repeat(1_001), ..by("a") };
    let error = policies.apply(numbered("wrong", 1), None, &note).await.unwrap_err();
    assert_eq!(error.violations[0].field, "note");
    assert!(policies.history("wrong").await.unwrap().is_empty());
}

async fn an_expectation_that_does_not_hold_changes_nothing(policies: &Policies) {
    let apply = |number, expected| policies.apply(numbered("expect", number), expected, &BY);
    static BY: std::sync::LazyLock<Authorship> = std::sync::LazyLock::new(|| by("a"));
    let error = apply(10, Some(1)).await.unwrap_err();
    assert_eq!((error.code, error.reason_text()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(apply(10, Some(0)).await.unwrap().revision, 1);
    assert!(apply(20, Some(0)).await.is_err());
    assert_eq!(apply(20, Some(1)).await.unwrap().revision, 2);
    // An answer that was lost on its way is asked for again.
    assert_eq!(apply(20, Some(1)).await.unwrap().revision, 2);
    policies.delete("expect", &BY).await.unwrap();
    assert!(apply(30, Some(2)).await.is_err(), "it is not in force any more");
    assert_eq!(apply(30, Some(0)).await.unwrap().revision, 4);
}

async fn what_was_can_be_again_and_what_is_removed_stays_in_the_history(policies: &Policies) {
    for number in [10, 20] {
        policies.apply(numbered("back", number), None, &by("a")).await.unwrap();
    }
    let back = policies.roll_back("back", 1, &by("b")).await.unwrap();
    assert_eq!((back.revision, back.policy), (3, Some(numbered("back", 10))));
    assert_eq!(policies.roll_back("back", 1, &by("b")).await.unwrap().revision, 3, "again");
    assert_eq!(policies.roll_back("back", 9, &by("b")).await.unwrap_err().code, Code::NotFound);
    policies.delete("back", &by("c")).await.unwrap();
    assert_eq!(policies.delete("back", &by("c")).await.unwrap_err().code, Code::NotFound);
    let history = policies.history("back").await.unwrap();
    assert_eq!((history.len(), history[0].policy.as_ref()), (4, None));
    assert!(policies.list().await.unwrap().iter().all(|stored| stored.service != "back"));
    assert_eq!(policies.roll_back("back", 2, &by("b")).await.unwrap().revision, 5);
    assert_eq!(policies.roll_back("back", 4, &by("b")).await.unwrap().policy, None);
}

async fn the_history_has_the_last_fifty(policies: &Policies) {
    for number in 1..=60 {
        policies.apply(numbered("long", number), None, &by("a")).await.unwrap();
    }
    let revisions: Vec<_> =
        policies.history("long").await.unwrap().iter().map(|record| record.revision).collect();
    assert_eq!(revisions, (11..=60).rev().collect::<Vec<_>>());
    assert_eq!(policies.roll_back("long", 10, &by("a")).await.unwrap_err().code, Code::NotFound);
    assert_eq!(policies.roll_back("long", 11, &by("a")).await.unwrap().revision, 61);
}

async fn of_those_who_change_the_same_none_is_lost(policies: &Policies) {
    let changes = (1..=5).map(|number| async move {
        policies.apply(numbered("race", number), None, &by("a")).await.unwrap().revision
    });
    let mut revisions = join_all(changes).await;
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
}

async fn a_watcher_sees_what_is_in_force(registry: &Arc<dyn Registry>, policies: &Policies) {
    let mut watch = registry.watch_policies(PolicySet::default());
    let mut until = async |revision: Option<i64>| {
        let seen = async {
            loop {
                let set = watch.next().await.expect("the registry is there");
                let found = set.revisions().find(|(service, _)| *service == "watched");
                if found.map(|(_, revision)| revision) == revision {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("in time");
    };
    policies.apply(numbered("watched", 10), None, &by("a")).await.unwrap();
    until(Some(1)).await;
    policies.apply(numbered("watched", 20), None, &by("a")).await.unwrap();
    until(Some(2)).await;
    policies.delete("watched", &by("a")).await.unwrap();
    until(None).await;
}

async fn suite(registry: &Arc<dyn Registry>) {
    let policies = &Policies::of(&**registry);
    tokio::join!(
        what_is_applied_is_in_force_and_the_same_again_changes_nothing(policies),
        what_is_wrong_is_refused_by_field_and_stores_nothing(policies),
        an_expectation_that_does_not_hold_changes_nothing(policies),
        what_was_can_be_again_and_what_is_removed_stays_in_the_history(policies),
        the_history_has_the_last_fifty(policies),
        of_those_who_change_the_same_none_is_lost(policies),
        a_watcher_sees_what_is_in_force(registry, policies),
    );
}

#[tokio::test]
async fn policies_in_memory_pass_the_suite() {
    Box::pin(suite(&mesh::registry::open("memory:").unwrap())).await;
}

#[tokio::test]
async fn policies_in_a_file_pass_the_suite_and_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.json");
    let open = || mesh::registry::open_kept("memory:", &file).unwrap();
    Box::pin(suite(&open())).await;
    let again = Policies::of(&*open());
    let revision = again.history("once").await.unwrap()[0].revision;
    assert_eq!(revision, 2);
    assert_eq!(again.apply(numbered("once", 30), None, &by("a")).await.unwrap().revision, 3);
}

#[tokio::test]
async fn policies_in_etcd_pass_the_suite() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = Etcd::start(Options::bound(folder.path()).unwrap()).await.unwrap();
    Box::pin(suite(&mesh::registry::open(&etcd.url()).unwrap())).await;
}

/// Scenario 16 of the fault list, its first half.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_in_etcd_keeps_the_last_good_policy_and_shows() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mut metrics = Metrics::default();
    let snapshot = world.file("snapshot");
    let mesh = world.mesh_with(world.identity("edge"), Some(snapshot.clone()), &mut metrics);
    let policies = Policies::of(&*world.registry);
    policies.apply(numbered("edge", 7), None, &by("a")).await.unwrap();
    policies.apply(failing("DATA_LOSS"), None, &by("a")).await.unwrap();
    until_calls_answer(&mesh, Code::DataLoss).await;

    for bad in ["garbage", r#"{"revision":"7","service":"links"}"#] {
        servers.etcdctl(&["put", "linkmesh/policies/links", bad]);
        eventually("the refusal", || async {
            mesh.policies().refused().get("links").is_some_and(|it| it.in_force == 1)
        })
        .await;
        assert_eq!(call(&mesh).await, Code::DataLoss, "the last good one holds");
    }
    let revisions: Vec<_> = mesh.policies().revisions().map(|(_, it)| it).collect();
    assert_eq!(revisions, [1, 1], "the other service's is as it was");
    let mut page = String::new();
    encode(&mut page, &metrics).unwrap();
    assert!(page.contains(r#"mesh_policy_refused{policy="links"} 1"#), "{page}");
    assert!(page.contains(r#"mesh_policy_revision{policy="links"} 1"#), "{page}");
    let listed = policies.list().await.unwrap();
    let stored = listed.iter().find(|stored| stored.service == "links").unwrap();
    assert!(stored.problem.as_ref().unwrap().contains("when it was stored"), "{stored:?}");

    // A process that starts now has it from its file.
    eventually("the file", || async {
        std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("DATA_LOSS"))
    })
    .await;
    mesh.close().await;
    let mesh = world.mesh_with(world.identity("edge"), Some(snapshot), &mut Metrics::default());
    until_calls_answer(&mesh, Code::DataLoss).await;
    eventually("the refusal", || async { !mesh.policies().refused().is_empty() }).await;
    assert_eq!(call(&mesh).await, Code::DataLoss);

    // An operator repairs it without knowing what was wrong.
    let repaired = policies.apply(failing("ABORTED"), None, &by("a")).await.unwrap();
    assert_eq!(repaired.revision, 2);
    until_calls_answer(&mesh, Code::Aborted).await;
    assert!(mesh.policies().refused().is_empty());
}

/// Scenario 16 of the fault list, its second half.
#[tokio::test(flavor = "multi_thread")]
async fn with_updates_as_fast_as_etcd_takes_them_calls_go_on_and_the_last_ones_hold() {
    const SERVICES: [&str; 4] = ["links", "edge", "identity", "analytics"];
    const UPDATES_OF_EACH: u32 = 100;
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    until_calls_answer(&mesh, Code::Ok).await;
    let calls = Load::start(&mesh, Method::Get);
    let updates = SERVICES.map(|service| {
        let policies = Policies::of(&*world.registry);
        async move {
            for number in 1..=UPDATES_OF_EACH {
                policies.apply(numbered(service, number), None, &by("a")).await.unwrap();
            }
        }
    });
    join_all(updates).await;
    eventually("the last ones", || async {
        let policies = mesh.policies();
        policies.revisions().filter(|(_, it)| *it == i64::from(UPDATES_OF_EACH)).count() == 4
    })
    .await;
    calls.for_calls(10).await;
    let failures = calls.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_first_request_soon() {
    const CHANGES: usize = 50;
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    until_calls_answer(&mesh, Code::Ok).await;
    let policies = Policies::of(&*world.registry);
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let (name, code) = [("ABORTED", Code::Aborted), ("DATA_LOSS", Code::DataLoss)][change % 2];
        policies.apply(failing(name), None, &by("a")).await.unwrap();
        let applied = Instant::now();
        while call(&mesh).await != code {
            assert!(applied.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        }
        took.push(applied.elapsed());
    }
    took.sort_unstable();
    // Ten times what is promised: a test is no bench.
    assert!(took[CHANGES * 99 / 100] < Duration::from_millis(500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_hold_while_etcd_is_away_and_are_followed_after_its_return() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let snapshot = world.file("snapshot");
    let start =
        || world.mesh_with(world.identity("edge"), Some(snapshot.clone()), &mut Metrics::default());
    let mesh = start();
    let policies = Policies::of(&*world.registry);
    policies.apply(failing("DATA_LOSS"), None, &by("a")).await.unwrap();
    until_calls_answer(&mesh, Code::DataLoss).await;
    eventually("the file", || async {
        std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("DATA_LOSS"))
    })
    .await;

    servers.etcd.kill().await;
    assert_eq!(call(&mesh).await, Code::DataLoss);
    let error = policies.apply(failing("ABORTED"), None, &by("a")).await.unwrap_err();
    assert_eq!((error.code, error.reason_text()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    mesh.close().await;
    let mesh = start();
    assert_eq!(call(&mesh).await, Code::DataLoss, "as the file says");

    servers.etcd.restart().await.unwrap();
    eventually("etcd", || async {
        policies.apply(failing("ABORTED"), None, &by("a")).await.is_ok()
    })
    .await;
    // What was compacted meanwhile is listed.
    compact(&servers.etcd);
    until_calls_answer(&mesh, Code::Aborted).await;
    policies.delete("links", &by("a")).await.unwrap();
    until_calls_answer(&mesh, Code::Ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_that_lost_its_data_lifts_nothing() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policies = Policies::of(&*world.registry);
    for number in 1..20 {
        policies.apply(numbered("edge", number), None, &by("a")).await.unwrap();
    }
    policies.apply(failing("DATA_LOSS"), None, &by("a")).await.unwrap();
    until_calls_answer(&mesh, Code::DataLoss).await;
    servers.etcd.kill().await;
    std::fs::remove_dir_all(servers.folder.path().join("data")).unwrap();
    servers.etcd.restart().await.unwrap();
    eventually("the loss", || async { mesh.policies().refused().len() == 2 }).await;
    assert_eq!(call(&mesh).await, Code::DataLoss);
    assert!(mesh.policies().refused()["links"].reason.contains("lost"));
    policies.apply(failing("ABORTED"), None, &by("a")).await.unwrap();
    until_calls_answer(&mesh, Code::Aborted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_updates_ends_with_the_last_one() {
    const UPDATES: u32 = 1_000;
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policies = Policies::of(&*world.registry);
    for number in 1..=UPDATES {
        policies.apply(numbered("links", number), None, &by("a")).await.unwrap();
    }
    eventually("the last one", || async {
        mesh.policies().revisions().any(|it| it == ("links", i64::from(UPDATES)))
    })
    .await;
    assert_eq!(call(&mesh).await, Code::Ok);
}

/// The server of a service obeys the policy of its own service.
#[tokio::test]
async fn a_server_obeys_the_same_policy() {
    let world = World::new();
    let mesh = world.mesh("links");
    let policies = Policies::of(&*world.registry);
    let cell = mesh.policy();
    assert_eq!(cell.revision(), 0);
    policies.apply(numbered("edge", 5), None, &by("a")).await.unwrap();
    policies.apply(numbered("links", 5), None, &by("a")).await.unwrap();
    eventually("the policy", || async { cell.revision() == 1 }).await;
    policies.delete("links", &by("a")).await.unwrap();
    eventually("the defaults", || async { cell.revision() == 0 }).await;
}
