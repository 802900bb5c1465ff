//! What the mesh costs, and what it is worth, beside those it is measured by: tonic's bare `Channel`, a pair of Envoy
//! sidecars, tower's balancers.
//!
//! Sides take turns (ABBA, then BAAB) in every pair, so that what else the machine does meets them alike; a figure is the
//! median of the pairs' ratios with its 95 % interval. The caller is this process and the callee a child, so that the
//! caller's CPU is counted alone.

mod callee;
mod calls;
pub(crate) mod certificates;
mod change;
pub(crate) mod child;
mod client;
pub(crate) mod drive;
pub(crate) mod envoy;
mod instructions;
mod latency;
mod memory;
mod sidecar;
mod tail;
mod valgrind;

use crate::report::Figure;
use callee::Callee;
use clap::ValueEnum;
use std::time::Instant;
use tempfile::TempDir;

/// Of the benches that take turns with a peer.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these rows of the mesh's bench
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROWS")]
    only: Vec<Row>,
    /// How many pairs of turns the benches of the mesh and the edge take for a figure
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(6..=1000))]
    pub(crate) pairs: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Saturated calls beside tonic's Channel
    Calls,
    /// 1,000 calls a second beside tonic's Channel
    Latency,
    /// The same calls through a pair of Envoy sidecars
    Envoy,
    /// Instructions of a pick and of a call
    Instructions,
    /// Memory of an endpoint and of the library
    Memory,
    /// Ten servers of which one is different, beside other balancers
    Tail,
    /// From a change in etcd to the first request
    Change,
}

/// What all rows share.
#[derive(Debug)]
struct Bench {
    pairs: usize,
    authority: TempDir,
    callee: Callee,
    started: Instant,
}

impl Bench {
    /// One line on standard error: figures come at the end.
    #[expect(clippy::print_stderr, reason = "how far it is, apart from the figures")]
    fn progress(&self, done: &str) {
        eprintln!("mesh: {:>4} s  {done}", self.started.elapsed().as_secs());
    }
}

/// Runs the rows that are wanted.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let rows = if options.only.is_empty() { Row::value_variants() } else { &options.only };
    let authority = tempfile::tempdir()?;
    let callee = Callee::start(authority.path()).await?;
    let pairs = usize::from(options.pairs);
    let bench = Bench { pairs, authority, callee, started: Instant::now() };
    let mut figures = Vec::new();
    for row in rows {
        figures.extend(match row {
            Row::Calls => calls::run(&bench).await?,
            Row::Latency => latency::run(&bench).await?,
            Row::Envoy => sidecar::run(&bench).await?,
            Row::Instructions => instructions::run(&bench).await?,
            Row::Memory => memory::run(&bench).await?,
            Row::Tail => tail::run(&bench).await?,
            Row::Change => change::run(&bench).await?,
        });
    }
    Ok(figures)
}
