//! From a click to its count: under 2,000 other clicks a second over 10,000 links.

use crate::cluster::Cluster;
use crate::report::Figure;
use hdrhistogram::Histogram;
use std::time::Duration;
use std::time::Instant;

/// Links of the background's clicks, and how many of those there are a second.
const LINKS: usize = 10_000;
const RATE: f64 = 2_000.0;
/// How many clicks are followed to their counts in a run, each in its turn by one of the followers.
const PROBES: u64 = 100;
/// Each follows clicks on a link of its own.
const FOLLOWERS: usize = 4;
/// The background runs for so long before anything is followed.
const WARM_UP: Duration = Duration::from_secs(5);
/// A probe that is not counted by then fails the bench.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a count; the figures are no finer.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
        Figure::alone("click to count at 2,000 clicks/s, p50", "ms", p50, None),
        Figure::alone("click to count at 2,000 clicks/s, p99", "ms", p99, Some("value <= 1000")),
    ])
}

async fn follow(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    tokio::time::sleep(WARM_UP).await;
    let followers = (0..FOLLOWERS).map(|_| follow_one(cluster));
    let mut micros = Histogram::<u64>::new(3)?;
    for seen in futures_util::future::try_join_all(followers).await? {
        micros.add(seen)?;
    }
    Ok(micros)
}

async fn follow_one(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let link = cluster.create_link("https://example.com/probe").await?;
    for probe in 1..=PROBES {
        let clicked = Instant::now();
        cluster.click(&cluster.edge_url_2, &link.slug).await?;
        while cluster.count(&link.name).await? < probe {
            anyhow::ensure!(clicked.elapsed() < PROBE_TIMEOUT, "click {probe} is not counted");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        micros.record(u64::try_from(clicked.elapsed().as_micros())?)?;
    }
    Ok(micros)
}
