//! A hundred changes of policies a second, bad ones among them, written to etcd past every check.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::drain::Load;
use crate::drain::Method;
use crate::servers::Servers;
use crate::world::eventually;
use etcd_client::Client;
use mesh::Mesh;
use std::time::Duration;

/// Whose policies change, how often, and which of the changes is the last good one.
const CHANGES: [(&str, usize, i64); 5] = [
    ("links", 60, 59),
    ("edge", 61, 61),
    ("identity", 60, 59),
    ("analytics", 61, 61),
    ("control", 60, 59),
];
/// How often each changes: a hundred times a second in all, as long as etcd's disk keeps up.
const EVERY: Duration = Duration::from_millis(50);
/// One of so many can't be used.
const BAD_ONE_IN: usize = 5;

/// What is written for a revision.
fn value(service: &str, revision: usize) -> String {
    if revision.is_multiple_of(BAD_ONE_IN) {
        return format!(
            r#"{{"service":"{service}","revision":"{revision}","policy":{{"rout":[]}}}}"#
        );
    }
    format!(
        r#"{{"service":"{service}","policy":{{"service":"{service}","concurrency":{{"calls_max":{revision}}}}},"revision":"{revision}","apply_time":"2026-01-02T03:04:05Z"}}"#
    )
}

fn revision(mesh: &Mesh, service: &str) -> Option<i64> {
    mesh.policies().revisions().find(|(name, _)| *name == service).map(|(_, it)| it)
}

async fn change(client: Client, service: &str, changes: usize) {
    let mut client = client.kv_client();
    let mut pace = tokio::time::interval(EVERY);
    for revision in 1..=changes {
        pace.tick().await;
        let key = format!("linkmesh/policies/{service}");
        client.put(key, value(service, revision), None).await.unwrap();
    }
}

/// Scenario 16 of the fault list.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_hundred_changes_a_second_calls_go_on_and_the_last_good_ones_hold() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let load = Load::start(&mesh, Method::Get);
    load.for_calls(10).await;
    let client = Client::connect([servers.etcd.address()], None).await.unwrap();
    let changing = CHANGES.map(|(service, changes, _)| change(client.clone(), service, changes));
    futures_util::future::join_all(changing).await;
    for (service, last, good) in CHANGES {
        eventually(service, || async {
            let refused = mesh.policies().refused().contains_key(service);
            revision(&mesh, service) == Some(good) && refused == last.is_multiple_of(BAD_ONE_IN)
        })
        .await;
    }
    load.for_calls(10).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}
