//! From a click to its count: under 2,000 other clicks a second over 10,000 links.

use crate::cluster::Cluster;
use crate::report::Figure;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use std::time::Duration;
use std::time::Instant;

/// How many clicks are followed to their counts in a run.
const PROBES: usize = 200;
/// A probe that is not counted by then fails the bench.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a count; the figures are no finer.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut background = cluster.load(&["--rate", "2000", "--clicks", "1000000000"])?;
        let seen = follow(cluster).await;
        background.kill().await.context("the load generator was running")?;
        let seen = seen?;
        p50.push(seen.value_at_quantile(0.50) as f64 / 1_000.0);
        p99.push(seen.value_at_quantile(0.99) as f64 / 1_000.0);
    }
    Ok(vec![
        Figure::alone("click to count at 2,000 clicks/s, p50", "ms", p50, None),
        Figure::alone("click to count at 2,000 clicks/s, p99", "ms", p99, Some("value <= 1000")),
    ])
}

async fn follow(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let link = cluster.create_named_link("https://example.com/probe").await?;
    for probe in 1..=PROBES as u64 {
        let clicked = Instant::now();
        cluster.click(&link.slug).await?;
        while cluster.count(&link.name).await? < probe {
            anyhow::ensure!(
                clicked.elapsed() < PROBE_TIMEOUT,
                "click {probe} is not counted after 30 s"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        micros.record(u64::try_from(clicked.elapsed().as_micros())?)?;
    }
    Ok(micros)
}
