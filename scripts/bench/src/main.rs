//! `bench`: what the platform costs, beside peers in the same run, with all that production would have on.
//!
//! Release processes of `linkmesh up` serve; figures are printed and written to `target/bench/NAME.json`.

mod changes;
mod cluster;
mod edge;
mod fold;
mod latency;
mod listening;
mod mesh;
mod procfs;
mod redirect;
mod report;
mod statistics;
mod transcoder;

use crate::cluster::Cluster;
use clap::Parser;
use clap::ValueEnum;
use std::path::PathBuf;

/// Measures, prints the figures, and writes them to target/bench/NAME.json.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// What to measure; everything if none is named.
    #[arg(value_enum)]
    names: Vec<Name>,
    /// How often; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Where the figures are written, and the servers' data while they run.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    #[command(flatten)]
    mesh: mesh::Options,
    /// What this process is for its parent
    #[arg(long, hide = true, value_parser = mesh::child::parse)]
    child: Option<mesh::child::Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Redirects of a cached link, click recorded, beside nginx's bare 302
    Redirect,
    /// REST, gRPC-Web and gRPC through the edge beside Envoy's filters, REST beside grpc-gateway, and idle connections
    Edge,
    /// JSON to protobuf and back, beside prost-reflect and pbjson
    Transcoder,
    /// A saturated unary call through the mesh beside tonic's bare channel, plain and mTLS
    Mesh,
    /// From a change's answer until both edges serve it
    Changes,
    /// From a click to its count, at 2,000 clicks a second
    Latency,
    /// Clicks folded by one aggregator from Kafka into Postgres
    Fold,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Edge => "edge",
            Self::Transcoder => "transcoder",
            Self::Mesh => "mesh",
            Self::Changes => "changes",
            Self::Latency => "latency",
            Self::Fold => "fold",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    anyhow::ensure!(
        provider.install_default().is_ok(),
        "another TLS provider was installed before"
    );
    let arguments = Arguments::parse();
    let mut runtime = match &arguments.child {
        Some(child) if child.is_single_threaded() => tokio::runtime::Builder::new_current_thread(),
        Some(_) | None => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(child) = arguments.child {
        return child.play().await;
    }
    let names = if arguments.names.is_empty() { Name::value_variants() } else { &arguments.names };
    std::fs::create_dir_all(&arguments.folder)?;

    let mut cluster = None;
    let mut outcome = Ok(());
    for name in names {
        outcome = measure(*name, &arguments, &mut cluster).await;
        if outcome.is_err() {
            break;
        }
    }
    if let Some(cluster) = cluster {
        cluster.down().await?;
    }
    outcome
}

/// One bench; the cluster is started by the first that needs it.
async fn measure(
    name: Name,
    arguments: &Arguments,
    cluster: &mut Option<Cluster>,
) -> anyhow::Result<()> {
    let (runs, folder) = (usize::from(arguments.runs), &arguments.folder);
    let pairs = usize::from(arguments.mesh.pairs);
    let figures = if name == Name::Mesh {
        mesh::run(&arguments.mesh).await?
    } else if name == Name::Transcoder {
        transcoder::run(pairs)?
    } else {
        if cluster.is_none() {
            *cluster = Some(Cluster::start(folder).await?);
        }
        let cluster = cluster.as_ref().expect("it was just started");
        match name {
            Name::Redirect => redirect::run(cluster, runs).await?,
            Name::Edge => edge::run(cluster, pairs).await?,
            Name::Changes => changes::run(cluster, runs).await?,
            Name::Latency => latency::run(cluster, runs).await?,
            Name::Fold => fold::run(cluster, runs).await?,
            Name::Mesh | Name::Transcoder => unreachable!("handled above"),
        }
    };
    report::publish(folder, name.as_str(), &figures)
}

/// One line on standard output.
#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn say(line: &str) {
    println!("{line}");
}
