//! From the answer to a change until every edge serves it, on two edges under load.

use crate::cluster::Cluster;
use crate::report::Figure;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use std::time::Duration;
use std::time::Instant;

const CHANGES: usize = 200;
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut background = cluster.load(&["--rate", "1000", "--clicks", "1000000000"])?;
        let seen = change(cluster).await;
        background.kill().await.context("the load generator was running")?;
        let seen = seen?;
        p50.push(seen.value_at_quantile(0.50) as f64 / 1_000.0);
        p99.push(seen.value_at_quantile(0.99) as f64 / 1_000.0);
    }
    Ok(vec![
        Figure::alone("change to both edges, p50", "ms", p50, None),
        Figure::alone("change to both edges, p99", "ms", p99, Some("value <= 500")),
    ])
}

async fn change(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let link = cluster.create_named_link("https://example.com/0").await?;
    for n in 1..=CHANGES {
        let destination = format!("https://example.com/{n}");
        cluster.change_destination(&link.name, &destination).await?;
        let answered = Instant::now();
        for edge in [&cluster.edge_url, &cluster.edge_url_2] {
            while cluster.location(edge, &link.slug).await? != destination {
                anyhow::ensure!(
                    answered.elapsed() < SEEN_WITHIN,
                    "{edge} does not serve change {n} after 30 s"
                );
            }
        }
        micros.record(u64::try_from(answered.elapsed().as_micros())?)?;
    }
    Ok(micros)
}
