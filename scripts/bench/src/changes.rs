//! From the answer to a change of a link, or a key's revocation, until every edge has it, on two edges under load.

use crate::cluster::Cluster;
use crate::report::Figure;
use hdrhistogram::Histogram;
use std::time::Duration;
use std::time::Instant;

/// How many changes are followed in a run.
const CHANGES: usize = 200;
/// How many keys are revoked in a run.
const KEYS: usize = 100;
/// Other clicks meanwhile.
const LINKS: usize = 1_000;
const RATE: f64 = 1_000.0;
/// A change that is not seen by then fails the bench.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let options = cluster.load(LINKS, RATE)?;
    let links = load::create_links(&options).await?;
    let millis = |seen: &Histogram<u64>, at: f64| seen.value_at_quantile(at) as f64 / 1_000.0;
    let mut runs_of = [const { Vec::new() }; 4];
    for _ in 0..runs {
        let seen = tokio::select! {
            report = load::run_on(&options, &links) => {
                anyhow::bail!("the background ended: {:?}", report.map(|report| report.sent));
            }
            seen = async { anyhow::Ok((follow_changes(cluster).await?, follow_keys(cluster).await?)) } => seen?,
        };
        let (changes, keys) = seen;
        let figures = [(&changes, 0.50), (&changes, 0.99), (&keys, 0.50), (&keys, 0.99)];
        for (of, (seen, at)) in runs_of.iter_mut().zip(figures) {
            of.push(millis(seen, at));
        }
    }
    let [change_p50, change_p99, key_p50, key_p99] = runs_of;
    Ok(vec![
        Figure::alone("change to both edges, p50", "ms", change_p50, None),
        Figure::alone("change to both edges, p99", "ms", change_p99, Some("value <= 500")),
        Figure::alone("revocation to both edges, p50", "ms", key_p50, None),
        Figure::alone("revocation to both edges, p99", "ms", key_p99, Some("value <= 500")),
    ])
}

async fn follow_keys(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let edges = [&cluster.edge_url, &cluster.edge_url_2];
    for number in 1..=KEYS {
        let (name, secret) = cluster.create_key().await?;
        for edge in edges {
            anyhow::ensure!(cluster.takes_key(edge, &secret).await?, "{edge} refuses a new key");
        }
        cluster.revoke_key(&name).await?;
        let answered = Instant::now();
        for edge in edges {
            while cluster.takes_key(edge, &secret).await? {
                anyhow::ensure!(
                    answered.elapsed() < SEEN_WITHIN,
                    "{edge} takes revoked key {number}"
                );
            }
        }
        micros.record(u64::try_from(answered.elapsed().as_micros())?)?;
    }
    Ok(micros)
}

async fn follow_changes(cluster: &Cluster) -> anyhow::Result<Histogram<u64>> {
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
