//! An open-loop load generator that checks every count: it creates links, clicks them over real HTTP, and compares what
//! it saw answered with what the API reports.
//!
//! What is clicked, by whom and from where follows from the seed alone. A click is sent once: if no answer comes it is
//! lost, and may or may not be counted. Latency counts from the moment a click was due, so a stall shows in all that
//! it delays.

mod addresses;
mod agents;
mod api;
mod compare;
mod drive;
mod plan;
mod report;
mod tally;

pub use agents::Agent;
pub use agents::Agents;
pub use agents::Kind;
pub use compare::Comparison;
pub use report::Latency;
pub use report::LinkMismatch;
pub use report::Report;
pub use tally::Split;

use anyhow::Context as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What to do; [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base URLs of the edges, `http://host:port`; connections are spread over them in turn.
    pub urls: Vec<String>,
    /// The API key to create links and read counts with.
    pub api_key: String,
    /// The key's workspace, `workspaces/wsp_…`.
    pub workspace: String,
    /// How many links to create, at least 1.
    pub links: usize,
    /// How many clicks to send.
    pub clicks: u64,
    /// Clicks a second over all connections; `None`: as many as the connections carry.
    pub rate: Option<f64>,
    /// How many keep-alive connections, over all edges; at least 1.
    pub connections: usize,
    /// Popularity of the link of rank `r` is `r` to the minus this; 0 makes all alike.
    pub zipf_exponent: f64,
    /// Decides links, agents, addresses and referrers of every click.
    pub seed: u64,
    /// Who clicks.
    pub agents: Arc<Agents>,
    /// A MaxMind database: addresses are taken from its networks. `None`: any public IPv4 address.
    pub mmdb: Option<PathBuf>,
    /// What must hold at the end.
    pub comparison: Comparison,
    /// How long counts may take to arrive after the last click.
    pub settle_max: Duration,
    /// Whether to draw a progress bar on standard error.
    pub shows_progress: bool,
}

impl Options {
    /// 10,000 clicks at saturation on 100 links over 32 connections, with the committed agents, to be counted exactly.
    ///
    /// # Errors
    /// Never, unless the committed list of agents is broken.
    pub fn new(urls: Vec<String>, api_key: String, workspace: String) -> anyhow::Result<Self> {
        Ok(Self {
            urls,
            api_key,
            workspace,
            links: 100,
            clicks: 10_000,
            rate: None,
            connections: 32,
            zipf_exponent: 1.0,
            seed: 1,
            agents: Arc::new(Agents::committed()?),
            mmdb: None,
            comparison: Comparison::Equal,
            settle_max: Duration::from_secs(60),
            shows_progress: false,
        })
    }
}

/// Creates the links, sends the clicks, waits for the counts and compares.
///
/// # Errors
/// The API can't be used, or no edge takes a connection for a long time. Counts that differ are no error: see
/// [`Report::is_exact`].
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.links > 0, "there must be at least one link");
    anyhow::ensure!(options.connections > 0, "there must be at least one connection");
    anyhow::ensure!(!options.urls.is_empty(), "there must be at least one edge");
    let api = api::Api::new(options)?;
    let links = api.create_links(options).await.context("creating the links")?;
    run_on(options, &links).await
}

/// [`run`] on links that exist already, to go on with those of an earlier run.
///
/// # Errors
/// As [`run`].
pub async fn run_on(options: &Options, links: &[Target]) -> anyhow::Result<Report> {
    let api = api::Api::new(options)?;
    let baseline = api.counted(links).await.context("reading the counts before")?;
    let addresses = addresses::Addresses::open(options.mmdb.as_deref(), options.seed)?;
    let plan = plan::Plan::new(options, links.len(), addresses);
    let driven = drive::drive(options, Arc::new(plan), links).await?;
    let compared = compare::compare(options, &api, links, &baseline, &driven.tally).await?;
    Ok(Report::new(options, links, driven, compared))
}

/// Creates links without clicking them.
///
/// # Errors
/// The API refuses, or can't be reached.
pub async fn create_links(options: &Options) -> anyhow::Result<Vec<Target>> {
    api::Api::new(options)?.create_links(options).await
}

/// A link to click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `workspaces/…/links/…`.
    pub name: String,
    /// The `Host` header that leads to it.
    pub host: String,
    /// Its slug.
    pub slug: String,
}
