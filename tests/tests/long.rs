//! System tests that take minutes: `make test-long`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]
#![allow(dead_code, reason = "helpers are shared with the quick system tests")]
#![allow(unreachable_pub, reason = "helpers are shared with the quick system tests")]

#[path = "system/client.rs"]
mod client;
#[path = "system/cluster.rs"]
mod cluster;
#[path = "system/counted.rs"]
mod counted;
#[path = "system/outage.rs"]
mod outage;
#[path = "system/traffic.rs"]
mod traffic;

use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::cluster::Cluster;
use crate::counted::counts;
use crate::counted::create;
use crate::counted::eventually;

/// Longer than librdkafka's and the Java client's default delivery time-outs, 5 and 2 minutes.
const KAFKA_AWAY: Duration = Duration::from_secs(5 * 60 + 20);
const CLICK_INTERVAL: Duration = Duration::from_millis(20);
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_minute_without_etcd_fails_no_call() -> anyhow::Result<()> {
    let away = Duration::from_secs(60);
    outage::without_etcd_no_call_fails_and_processes_come_and_go(away, async |_| Ok(())).await
}

#[tokio::test]
async fn kafka_away_for_longer_than_any_delivery_time_out_loses_and_doubles_nothing()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.api();
    let edges = cluster.edges(&api);
    let (link, slug) = create(&api, json!({"destinationUri": "https://example.com/"})).await?;

    cluster.stop(&["kafka"]).await?;
    let away = Instant::now();
    let mut answered = 0;
    let mut pace = tokio::time::interval(CLICK_INTERVAL);
    while away.elapsed() < KAFKA_AWAY {
        pace.tick().await;
        for edge in &edges {
            let answer = edge.click(cluster.domain(), &slug).await?;
            assert_eq!(
                answer.status, 302,
                "every redirect answers while Kafka is away: {answer:?}"
            );
            answered += 1;
        }
    }
    cluster.restart(&["kafka"]).await?;

    eventually(&(answered, 0), COUNTED_WITHIN, || counts(&api, &link)).await?;
    for edge in ["edge-1", "edge-2"] {
        let lost = cluster.metric(edge, "spool_lost_clicks_total").await?;
        assert_eq!(lost, Some(0.0), "{edge} lost clicks");
    }
    Ok(())
}
