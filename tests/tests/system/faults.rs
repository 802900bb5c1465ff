//! The system under faults: what was answered is counted, whatever is killed, stopped or wiped meanwhile.

use crate::cluster::Cluster;
use crate::counted::counts;
use crate::counted::create;
use crate::counted::eventually;
use crate::outage;
use crate::propagation::a_revoked_key_stops_working_at_every_edge;
use crate::seeing;
use load::Comparison;
use load::Report;
use serde_json::json;
use std::time::Duration;

const LINKS: usize = 1_000;
const CLICKS: u64 = 12_000;
/// Slow enough that a run outlasts the faults in it.
const CLICKS_A_SECOND: f64 = 600.0;
/// How long after the last answer a count may take to be there, an aggregator's take-over included.
const SETTLE_MAX: Duration = Duration::from_secs(90);

fn options(cluster: &Cluster, comparison: Comparison) -> anyhow::Result<load::Options> {
    let urls = vec![cluster.value("URL").to_owned(), cluster.value("URL_2").to_owned()];
    let key = cluster.value("API_KEY").to_owned();
    let mut options = load::Options::new(urls, key, cluster.value("WORKSPACE").to_owned())?;
    options.links = LINKS;
    options.clicks = CLICKS;
    options.rate = Some(CLICKS_A_SECOND);
    options.connections = 16;
    options.comparison = comparison;
    options.settle_max = SETTLE_MAX;
    Ok(options)
}

fn assert_exact(report: &Report) {
    assert!(report.is_exact, "{report}\n{:#?}", report.mismatches);
}

async fn assert_nothing_lost(cluster: &Cluster) -> anyhow::Result<()> {
    for edge in ["edge-1", "edge-2"] {
        let lost = cluster.metric(edge, "spool_lost_clicks_total").await?;
        assert_eq!(lost, Some(0.0), "{edge} lost clicks");
    }
    Ok(())
}

/// Runs `fault` once `delay` of the load is over.
async fn midway(
    delay: Duration,
    fault: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::time::sleep(delay).await;
    fault.await
}

#[tokio::test]
async fn every_answered_click_is_counted_on_its_link() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let mut options = options(&cluster, Comparison::Equal)?;
    options.rate = None;
    let report = load::run(&options).await?;
    assert_exact(&report);
    assert_eq!(report.answered.total(), CLICKS);
    assert!(report.answered.bots > 0 && report.answered.people > 0, "{report}");
    assert_nothing_lost(&cluster).await
}

#[tokio::test]
async fn killed_processes_lose_and_double_nothing_that_was_answered() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let options = options(&cluster, Comparison::Bounded)?;
    let members = ["links-1", "analytics-1", "edge-2"];
    let faults = midway(Duration::from_secs(5), async {
        cluster.kill(&members).await?;
        cluster.restart(&members).await
    });
    let (report, faulted) = tokio::join!(load::run(&options), faults);
    faulted?;
    let report = report?;
    assert_exact(&report);
    assert!(report.broken_connections > 0, "the edge was killed under load: {report}");
    assert_nothing_lost(&cluster).await
}

#[tokio::test]
async fn with_kafka_away_every_redirect_answers_and_is_counted_later() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let options = options(&cluster, Comparison::Equal)?;
    let faults = midway(Duration::from_secs(4), async {
        cluster.kill(&["kafka"]).await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        cluster.restart(&["kafka"]).await
    });
    let (report, faulted) = tokio::join!(load::run(&options), faults);
    faulted?;
    let report = report?;
    assert_exact(&report);
    assert_eq!(report.answered.total(), CLICKS, "every redirect was answered");
    assert_nothing_lost(&cluster).await?;

    // The same name with an empty folder: a new incarnation, whose numbers begin anew and are counted all the same.
    cluster.stop(&["edge-2"]).await?;
    std::fs::remove_dir_all(cluster.folder().join("edge-2/data"))?;
    cluster.restart(&["edge-2"]).await?;
    let api = cluster.api();
    let (link, slug) = create(&api, json!({"destinationUri": "https://example.com/"})).await?;
    let second = api.at(cluster.value("URL_2"));
    for _ in 0..50 {
        assert_eq!(second.click(cluster.domain(), &slug).await?.status, 302);
    }
    eventually(&(50, 0), SETTLE_MAX, || counts(&api, &link)).await
}

#[tokio::test]
async fn with_kafka_away_changes_and_revocations_reach_every_edge_by_the_caches_age()
-> anyhow::Result<()> {
    /// The caches' time to live of 30 s, with room for a busy machine.
    const WITHIN: Duration = Duration::from_secs(45);
    let cluster = Cluster::start().await?;
    let api = cluster.api();
    let edges = cluster.edges(&api);
    let (link, slug) = create(&api, json!({"destinationUri": "https://example.com/old"})).await?;
    for edge in &edges {
        assert_eq!(
            edge.click(cluster.domain(), &slug).await?.header("location"),
            "https://example.com/old"
        );
    }
    cluster.kill(&["kafka"]).await?;
    let change = json!({"destinationUri": "https://example.com/new"});
    let changed = api.rest("PATCH", &format!("/v1/{link}"), Some(change)).await?;
    assert_eq!(changed.status, 200, "a change needs no Kafka");
    for edge in &edges {
        eventually(&"https://example.com/new".to_owned(), WITHIN, || async {
            Ok(edge.click(cluster.domain(), &slug).await?.header("location").to_owned())
        })
        .await?;
        for _ in 0..20 {
            let answer = edge.click(cluster.domain(), &slug).await?;
            assert_eq!(
                answer.header("location"),
                "https://example.com/new",
                "it never returns to the old state"
            );
        }
    }
    a_revoked_key_stops_working_at_every_edge(&edges, WITHIN).await
}

#[tokio::test]
async fn without_etcd_no_call_fails_and_processes_come_and_go() -> anyhow::Result<()> {
    // The take-over, the new process and the snapshot all happen meanwhile; a whole minute is for the long tests.
    let away = Duration::from_secs(10);
    outage::without_etcd_no_call_fails_and_processes_come_and_go(away, async |cluster| {
        seeing::what_is_down_is_named_with_what_to_do(cluster, &["etcd at", "links-2"]).await
    })
    .await
}

#[tokio::test]
async fn every_instance_is_listed_with_what_an_operator_needs() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let listed = cluster.endpoints().await?;
    for instance in [
        "identity-1",
        "identity-2",
        "links-1",
        "links-2",
        "analytics-1",
        "analytics-2",
        "edge-1",
        "edge-2",
    ] {
        let line = listed.lines().find(|line| line.contains(instance));
        let line = line.unwrap_or_else(|| panic!("{instance} is not listed:\n{listed}"));
        for word in ["127.0.0.1:", "local-a", env!("CARGO_PKG_VERSION")] {
            assert!(line.contains(word), "{word} is missing: {line}");
        }
    }
    Ok(())
}
