//! What Linkmesh costs, beside peers in the same run: `make bench`, or `make bench-NAME` for one.
//!
//! Every figure is taken on release builds with everything on that production would have: metrics, tracing compiled in, the
//! spool synced in groups. Ratios and CPU are what is quoted; wall-clock depends on the machine and on who shares it.

mod changes;
mod cluster;
mod fold;
mod latency;
mod mesh;
mod procfs;
mod redirect;
mod report;

use anyhow::Context as _;
use clap::Parser;
use clap::ValueEnum;
use std::io::Write as _;
use std::path::PathBuf;

/// Measures Linkmesh beside its peers, and writes every figure to `target/bench/NAME.json`.
///
/// Starts a whole system of its own (etcd, Redis, Kafka, Postgres, two processes of every service) in a folder that it
/// removes. Takes some minutes; nothing else should use the machine meanwhile.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; all if none is named.
    names: Vec<Bench>,
    /// How often each is run; the median is quoted.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    runs: u16,
    /// Where the figures go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// A saturated unary call beside tonic's bare `Channel`.
    Mesh,
    /// Redirects, clicks recorded, beside nginx's bare `return 302`.
    Redirect,
    /// From a click to its count.
    Latency,
    /// From a change of a link until every edge serves it.
    Changes,
    /// Clicks folded a second by one aggregator.
    Fold,
}

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("nothing else installs a TLS provider"))?;
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let wanted = |bench: Bench| options.names.is_empty() || options.names.contains(&bench);
    let runs = usize::from(options.runs);
    if wanted(Bench::Mesh) {
        say("mesh: calls through the mesh and through a bare channel …");
        report::publish(&options.output, "mesh", &mesh::run(runs).await?)?;
    }
    let others = [Bench::Redirect, Bench::Latency, Bench::Changes, Bench::Fold];
    if !others.into_iter().any(wanted) {
        return Ok(());
    }
    say("starting the system …");
    let folder = std::env::temp_dir().join(format!("linkmesh-bench-{}", std::process::id()));
    let cluster = cluster::Cluster::start(folder).await?;
    let measured = measure(&cluster, &options, wanted).await;
    let stopped = cluster.down().await;
    measured?;
    stopped.context("the system did not stop")
}

async fn measure(
    cluster: &cluster::Cluster,
    options: &Options,
    wanted: impl Fn(Bench) -> bool,
) -> anyhow::Result<()> {
    let runs = usize::from(options.runs);
    if wanted(Bench::Redirect) {
        say("redirect: wrk on the edge, then on nginx …");
        report::publish(&options.output, "redirect", &redirect::run(cluster, runs).await?)?;
    }
    if wanted(Bench::Latency) {
        say("latency: following single clicks to their counts …");
        report::publish(&options.output, "latency", &latency::run(cluster, runs).await?)?;
    }
    if wanted(Bench::Changes) {
        say("changes: changing a hot link …");
        report::publish(&options.output, "changes", &changes::run(cluster, runs).await?)?;
    }
    if wanted(Bench::Fold) {
        say("fold: writing clicks to Kafka, then folding them …");
        report::publish(&options.output, "fold", &fold::run(cluster, runs).await?)?;
    }
    Ok(())
}

/// A line for whoever waits.
fn say(text: &str) {
    // Nothing is lost if nobody reads it.
    drop(writeln!(std::io::stdout(), "{text}"));
}
