//! One suite for every registry: what holds in memory holds in etcd.

use crate::following::Following;
use crate::world::eventually;
use crate::world::registration;
use mesh::Registry;
use mesh::registry::Attendance;
use mesh::registry::JoinTokenEntry;
use mesh::registry::Roster;
use stack::Etcd;
use stack::Options;
use stack::TemporaryFolder;
use std::sync::Arc;
use std::time::Duration;

/// Two gRPC services, so that an instance is several entries.
const SERVICES: [&str; 2] = ["a.A", "b.B"];

async fn a_watcher_is_told_everything_in_order(registry: &Arc<dyn Registry>) {
    let mut early = registry.register(registration("order-1", "127.0.0.1:1", &SERVICES));
    let registered = Following::start(registry);
    registered.until_addresses("b.B", &["127.0.0.1:1"]).await;

    let following = Following::start(registry);
    following.until_listed().await;
    following.until_addresses("a.A", &["127.0.0.1:1"]).await;
    early.drain().await;
    early.withdraw().await;
    let gone = "a.A on order-1 is gone".to_owned();
    eventually("the end", || async { following.history().contains(&gone) }).await;
    let of_a: Vec<_> =
        following.history().into_iter().filter(|line| line.starts_with("a.A on order-1")).collect();
    assert_eq!(&of_a[of_a.len() - 2..], ["a.A on order-1 drains", "a.A on order-1 is gone"]);
}

async fn withdrawing_says_goodbye_first(registry: &Arc<dyn Registry>) {
    let following = Following::start(registry);
    let lease = registry.register(registration("bye-1", "127.0.0.1:1", &["bye.A"]));
    following.until_addresses("bye.A", &["127.0.0.1:1"]).await;
    lease.withdraw().await;
    following.until_addresses("bye.A", &[]).await;
    let gone = "bye.A on bye-1 is gone".to_owned();
    eventually("the end", || async { following.history().contains(&gone) }).await;
    assert!(following.history().contains(&"bye.A on bye-1 drains".to_owned()));
}

async fn an_instance_that_was_drained_comes_back(registry: &Arc<dyn Registry>) {
    let following = Following::start(registry);
    let mut lease = registry.register(registration("back-1", "127.0.0.1:1", &["back.A"]));
    following.until_addresses("back.A", &["127.0.0.1:1"]).await;
    eventually("the lease knows", || async { lease.is_reached() }).await;
    for _ in 0..2 {
        lease.drain().await;
        lease.drain().await;
        following.until_addresses("back.A", &[]).await;
        lease.undrain().await;
        following.until_addresses("back.A", &["127.0.0.1:1"]).await;
    }
    let history = following.history();
    let gone = history.iter().any(|line| line == "back.A on back-1 is gone");
    assert!(!gone, "it was there all along: {history:?}");
    lease.withdraw().await;
    following.until_addresses("back.A", &[]).await;
}

async fn every_member_is_diagnosed(registry: &Arc<dyn Registry>) {
    for member in registry.diagnose().await {
        assert!(registry.place().contains(&member.address), "{member:?}");
        let health = member.health.expect("it runs");
        assert!(health.leads && health.led && health.revision > 0, "{health:?}");
    }
}

async fn a_dropped_lease_runs_out_without_a_word(registry: &Arc<dyn Registry>) {
    let following = Following::start(registry);
    let lease = registry.register(registration("dead-1", "127.0.0.1:1", &["dead.A"]));
    following.until_addresses("dead.A", &["127.0.0.1:1"]).await;
    drop(lease);
    following.until_addresses("dead.A", &[]).await;
    assert!(!following.history().contains(&"dead.A on dead-1 drains".to_owned()));
}

async fn an_instance_that_comes_back_is_not_taken_away_by_its_old_lease(
    registry: &Arc<dyn Registry>,
) {
    let following = Following::start(registry);
    let before = registry.register(registration("again-1", "127.0.0.1:1", &["again.A"]));
    following.until_addresses("again.A", &["127.0.0.1:1"]).await;
    let after = registry.register(registration("again-1", "127.0.0.1:2", &["again.A"]));
    following.until_addresses("again.A", &["127.0.0.1:2"]).await;
    drop(before);
    // The old lease runs out before this one, which was registered later, does.
    let witness = registry.register(registration("witness-1", "127.0.0.1:3", &["witness.A"]));
    following.until_addresses("witness.A", &["127.0.0.1:3"]).await;
    drop(witness);
    following.until_addresses("witness.A", &[]).await;
    assert_eq!(following.addresses("again.A"), ["127.0.0.1:2"]);
    after.withdraw().await;
}

async fn a_watcher_that_is_slow_sees_where_it_ended(registry: &Arc<dyn Registry>) {
    let mut slow = registry.watch();
    let following = Following::start(registry);
    for port in 1..300 {
        let address = format!("127.0.0.1:{port}");
        let lease = registry.register(registration("slow-1", &address, &["slow.A"]));
        following.until_addresses("slow.A", &[&address]).await;
        drop(lease);
    }
    let last = registry.register(registration("slow-1", "127.0.0.1:9", &["slow.A"]));
    following.until_addresses("slow.A", &["127.0.0.1:9"]).await;
    let last_seen = async {
        loop {
            let update = slow.next().await.expect("the registry is there");
            if format!("{update:?}").contains("127.0.0.1:9\"") {
                return;
            }
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, last_seen).await.expect("it catches up");
    last.withdraw().await;
}

async fn what_is_registered_reads_back(registry: &Arc<dyn Registry>) {
    let mut registration = registration("whole-1", "host.example:1", &["whole.A"]);
    registration.weight = 7;
    let lease = registry.register(registration.clone());
    let mut watch = registry.watch();
    let read_back = async {
        loop {
            let update = format!("{:?}", watch.next().await.expect("the registry is there"));
            if update.contains("host.example:1") {
                return update;
            }
        }
    };
    let update = tokio::time::timeout(crate::world::PATIENCE, read_back).await.expect("in time");
    for part in ["service: \"links\"", "zone: \"a\"", "region: \"eu\"", "weight: 7"] {
        assert!(update.contains(part), "{part} in {update}");
    }
    lease.withdraw().await;
}

async fn a_join_token_is_remembered_changed_once_and_forgotten(registry: &Arc<dyn Registry>) {
    let (tokens, hour) = (registry.join_tokens(), Duration::from_secs(3600));
    assert!(tokens.create("one", b"1".to_vec(), hour).await.unwrap());
    assert!(!tokens.create("one", b"2".to_vec(), hour).await.unwrap());
    let read = tokens.get("one").await.unwrap().unwrap();
    assert_eq!((read.id.as_str(), read.value.as_slice()), ("one", &b"1"[..]));
    assert_eq!(tokens.list().await.unwrap(), std::slice::from_ref(&read));

    // Of two who change what they have both read, one does.
    let changed = JoinTokenEntry { value: b"3".to_vec(), ..read };
    assert!(tokens.replace(changed.clone()).await.unwrap());
    assert!(!tokens.replace(changed).await.unwrap());
    assert_eq!(tokens.get("one").await.unwrap().unwrap().value, b"3");

    assert!(tokens.delete("one").await.unwrap());
    assert!(!tokens.delete("one").await.unwrap());
    assert_eq!(tokens.get("one").await.unwrap(), None);

    assert!(tokens.create("short", b"1".to_vec(), Duration::from_secs(1)).await.unwrap());
    eventually("it runs out", || async { tokens.get("short").await.unwrap().is_none() }).await;
    assert!(tokens.list().await.unwrap().is_empty());
}

async fn callers_have_the_lowest_free_ordinals(registry: &Arc<dyn Registry>) {
    let mut attendances = Vec::new();
    for zone in ["a", "b", "a"] {
        let mut attendance = registry.attend("caller", zone);
        let roster = until(&mut attendance, |roster| roster.own.is_some()).await;
        assert_eq!(roster.own, Some(u32::try_from(attendances.len()).unwrap()));
        attendances.push(attendance);
    }
    let mut last = attendances.pop().unwrap();
    let roster = until(&mut last, |roster| roster.zones.len() == 3).await;
    assert_eq!(roster.zones.values().collect::<Vec<_>>(), ["a", "b", "a"]);
    // Whoever goes leaves a number to the next one.
    attendances.remove(0);
    until(&mut last, |roster| roster.zones.len() == 2).await;
    let mut next = registry.attend("caller", "c");
    assert_eq!(until(&mut next, |roster| roster.own.is_some()).await.own, Some(0));
    assert_eq!(until(&mut last, |roster| roster.zones.len() == 3).await.own, Some(2));
    let mut other = registry.attend("another", "a");
    assert_eq!(until(&mut other, |roster| roster.own.is_some()).await.own, Some(0));
}

/// The first roster that is as wanted.
async fn until(attendance: &mut Attendance, wanted: impl Fn(&Roster) -> bool) -> Arc<Roster> {
    let found = async {
        let mut roster = attendance.newest();
        while !wanted(&roster) {
            roster = attendance.next().await.expect("the registry is there");
        }
        roster
    };
    tokio::time::timeout(crate::world::PATIENCE, found).await.expect("in time")
}

async fn suite(registry: &Arc<dyn Registry>) {
    tokio::join!(
        a_watcher_is_told_everything_in_order(registry),
        withdrawing_says_goodbye_first(registry),
        a_dropped_lease_runs_out_without_a_word(registry),
        an_instance_that_comes_back_is_not_taken_away_by_its_old_lease(registry),
        a_watcher_that_is_slow_sees_where_it_ended(registry),
        what_is_registered_reads_back(registry),
        callers_have_the_lowest_free_ordinals(registry),
        an_instance_that_was_drained_comes_back(registry),
        every_member_is_diagnosed(registry),
        a_join_token_is_remembered_changed_once_and_forgotten(registry),
    );
}

#[tokio::test]
async fn the_registry_in_memory_passes_the_suite() {
    suite(&mesh::registry::open("memory:").unwrap()).await;
}

#[tokio::test]
async fn the_registry_in_etcd_passes_the_suite() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = Etcd::start(Options::bound(folder.path()).unwrap()).await.unwrap();
    suite(&mesh::registry::open(&etcd.url()).unwrap()).await;
}

#[test]
fn an_unknown_registry_is_refused_by_name() {
    for uri in ["", "redis://h:1", "etcd://", "etcd://h", "memory"] {
        let error = mesh::registry::open(uri).unwrap_err();
        assert!(format!("{error:#}").contains(&format!("`{uri}`")), "{error:#}");
    }
}
