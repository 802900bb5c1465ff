//! From the answer to a change until every edge serves it, on two edges under load.

use crate::cluster::Cluster;
use crate::report::Figure;
use hdrhistogram::Histogram;
use std::time::Duration;
use std::time::Instant;

/// How many changes are followed in a run.
const CHANGES: usize = 200;
/// Other clicks meanwhile.
const LINKS: usize = 1_000;
const RATE: f64 = 1_000.0;
/// A change that is not seen by then fails the bench.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let options = cluster.load(LINKS, RATE)?;
    let links = load::create_links(&options).await?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let seen = tokio::select! {
            report = load::run_on(&options, &links) => {
                anyhow::bail!("the background ended: {:?}", report.map(|report| report.sent));
            }
            seen = follow(cluster) => seen?,
        };
        p50.push(seen.value_at_quantile(0.50) as f64 / 1_000.0);
        p99.push(seen.value_at_quantile(0.99) as f64 / 1_000.0);
    }
    Ok(vec![
        Figure::alone("change to both edges, p50", "ms", p50, None),
        Figure::alone("change to both edges, p99", "ms", p99, Some("value <= 500")),
    ])
}

async fn follow(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let link = cluster.create_link("https://example.com/0").await?;
    let edges = [&cluster.edge_url, &cluster.edge_url_2];
    for edge in edges {
        cluster.click(edge, &link.slug).await?;
    }
    for number in 1..=CHANGES {
        let destination = format!("https://example.com/{number}");
        cluster.change_destination(&link.name, &destination).await?;
        let answered = Instant::now();
        for edge in edges {
            while cluster.click(edge, &link.slug).await? != destination {
                anyhow::ensure!(
                    answered.elapsed() < SEEN_WITHIN,
                    "{edge} never served change {number}"
                );
            }
        }
        micros.record(u64::try_from(answered.elapsed().as_micros())?)?;
    }
    Ok(micros)
}
