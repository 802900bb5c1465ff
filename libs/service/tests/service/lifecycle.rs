//! Start and stop: in order, whatever fails or is away.

use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::time::Instant;

use service::Assembly;
use service::Condition;
use service::ConfigError;
use service::Host;
use service::Task;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hosted::ANY_PORT;
use crate::hosted::Diary;
use crate::hosted::Hosted;
use crate::hosted::PATIENCE;
use crate::hosted::config;
use crate::hosted::spawn;

#[tokio::test]
async fn all_are_assembled_before_any_runs_and_the_front_stops_first() {
    let folder = tempfile::tempdir().unwrap();
    let diary = Diary::default();
    let mut host = Host::new(config(&folder), "1.0");
    for (name, tasks) in [
        ("links", ["links-relay", "links-purge"]),
        ("analytics", ["analytics-tail", "analytics-fold"]),
    ] {
        let diary = diary.clone();
        host = host.add(name, ANY_PORT, move |cx| async move {
            assert_eq!(cx.instance, format!("{name}-1"));
            diary.note(format!("{name} assembled"));
            Ok(diary.assembly(&tasks))
        });
    }
    let front = diary.clone();
    host = host.add_front("edge", ANY_PORT, move |_| async move {
        front.note("edge assembled");
        Ok(front.assembly(&["edge-listener", "edge-shipper"]))
    });
    let hosted = Hosted::ready(host, &folder).await;
    hosted.stop().await.unwrap();
    let expected = [
        "links assembled",
        "analytics assembled",
        "edge assembled",
        "edge-listener stopped",
        "edge-shipper stopped",
        "analytics-tail stopped",
        "analytics-fold stopped",
        "links-relay stopped",
        "links-purge stopped",
    ];
    assert_eq!(diary.entries(), expected);
}

#[tokio::test]
async fn a_task_that_fails_stops_the_rest_in_order_and_is_the_process_s_error() {
    let folder = tempfile::tempdir().unwrap();
    let diary = Diary::default();
    let (noting, fail) = (diary.clone(), CancellationToken::new());
    let failing = fail.clone();
    let host = Host::new(config(&folder), "1.0").add("links", ANY_PORT, move |_| async move {
        let mut assembly = noting.assembly(&["purge"]);
        assembly.tasks.push(Task::new("relay", move |_| async move {
            failing.cancelled().await;
            anyhow::bail!("the outbox is gone")
        }));
        Ok(assembly)
    });
    let hosted = Hosted::ready(host, &folder).await;
    fail.cancel();
    let error = hosted.ended().await.unwrap_err().to_string();
    assert_eq!(error, "task `relay` of links failed: the outbox is gone");
    assert_eq!(diary.entries(), ["purge stopped"]);
}

#[tokio::test]
async fn a_service_that_can_t_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(config(&folder), "1.0")
        .add("links", ANY_PORT, |_| async { anyhow::bail!("no schema") });
    let error = host.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "starting links: no schema");
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_refused_setting_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host =
        Host::new(config(&folder), "1.0")
            .add("links", taken.local_addr().unwrap(), |_| async { Ok(Assembly::default()) });
    let error = host.run(CancellationToken::new()).await.unwrap_err();
    let refused = error.downcast_ref::<ConfigError>().expect("a refused setting");
    assert_eq!(refused.key, "links.listen");
}

#[tokio::test]
async fn an_address_that_peers_can_t_call_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = (Ipv4Addr::UNSPECIFIED, 0).into();
    let host = Host::new(config(&folder), "1.0")
        .add("links", everywhere, |_| async { Ok(Assembly::default()) });
    let error = host.run(CancellationToken::new()).await.unwrap_err();
    let refused = error.downcast_ref::<ConfigError>().expect("a refused setting");
    assert_eq!(refused.key, "host.advertise");
}

#[tokio::test]
async fn a_registry_that_is_away_delays_neither_start_nor_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    // A port that was free a moment ago: nobody listens there.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    config.mesh.registry = format!("etcd://{nobody}");
    let host =
        Host::new(config, "1.0").add("links", ANY_PORT, |_| async { Ok(Assembly::default()) });
    let hosted = Hosted::ready(host, &folder).await;
    assert!(hosted.admin("/readyz").await.starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    hosted.stop().await.unwrap();
    let seconds = begun.elapsed().as_secs();
    assert!(seconds < 5, "the stop took {seconds} s");
}

#[tokio::test]
async fn a_stop_before_the_process_is_ready_stops_it_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let diary = Diary::default();
    let (never, condition) = watch::channel(false);
    let (noting, assembled) = (diary.clone(), CancellationToken::new());
    let runs = assembled.clone();
    let host = Host::new(config(&folder), "1.0").add("links", ANY_PORT, move |_| async move {
        let mut assembly = noting.assembly(&["relay"]);
        assembly.ready.push(Condition::new("postgres", condition));
        assembly.tasks.push(Task::new("started", move |_| async move {
            runs.cancel();
            Ok(())
        }));
        Ok(assembly)
    });
    let stop = CancellationToken::new();
    let run = spawn(host.run(stop.clone()));
    timeout(PATIENCE, assembled.cancelled()).await.expect("it runs");
    stop.cancel();
    timeout(PATIENCE, run).await.expect("in time").unwrap().unwrap();
    assert_eq!(diary.entries(), ["relay stopped"]);
    drop(never);
}
