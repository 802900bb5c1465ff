//! `load`: creates links, clicks them, and checks that every click was counted once.

#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use anyhow::Context as _;
use clap::Parser;
use clap::ValueEnum;
use load::Agents;
use load::Comparison;
use load::Options;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Creates links through the API, sends real clicks to them, and compares what was answered with what was counted.
///
/// After `make up`: `. .data/up/up.env && load --links 10000 --clicks 200000`. Exits with 1 if counts do not agree.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
struct Arguments {
    /// An edge to click through, http://host:port; again for each further one, or joined by commas.
    #[arg(long = "url", env = "LINKMESH_URL", value_delimiter = ',', required = true)]
    urls: Vec<String>,
    /// The API key to create links and read counts with.
    #[arg(long, env = "LINKMESH_API_KEY", hide_env_values = true)]
    api_key: String,
    /// The key's workspace: workspaces/wsp_…
    #[arg(long, env = "LINKMESH_WORKSPACE")]
    workspace: String,
    /// How many links to create.
    #[arg(long, default_value_t = 100)]
    links: usize,
    /// How many clicks to send.
    #[arg(long, default_value_t = 10_000)]
    clicks: u64,
    /// Clicks a second; without it, as many as the connections carry.
    #[arg(long)]
    rate: Option<f64>,
    /// Keep-alive connections over all edges.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Exponent of the links' popularity; 0: all alike.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// What decides every click; the same seed repeats a run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A MaxMind database to take client addresses from.
    #[arg(long, env = "LINKMESH_MMDB")]
    mmdb: Option<PathBuf>,
    /// user-agents.json of the npm package `user-agents`, instead of the committed list; then people and bots are
    /// compared as one.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// What must hold at the end.
    #[arg(long, value_enum, default_value_t = Compare::Equal)]
    compare: Compare,
    /// Seconds that counts may take to arrive.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compare {
    /// Counted is answered, for every link.
    Equal,
    /// Answered <= counted <= answered + lost, for every link: for runs with faults.
    Bounded,
    /// Counts are not read.
    None,
}

impl Arguments {
    fn options(self) -> anyhow::Result<Options> {
        let options = Options::new(self.urls, self.api_key, self.workspace)?;
        let agents = match &self.profiles {
            None => Arc::clone(&options.agents),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                Arc::new(Agents::profiles(&text)?)
            }
        };
        Ok(Options {
            links: self.links,
            clicks: self.clicks,
            rate: self.rate.filter(|rate| *rate > 0.0),
            connections: self.connections,
            zipf_exponent: self.zipf,
            seed: self.seed,
            agents,
            mmdb: self.mmdb,
            comparison: match self.compare {
                Compare::Equal => Comparison::Equal,
                Compare::Bounded => Comparison::Bounded,
                Compare::None => Comparison::None,
            },
            settle_max: Duration::from_secs(self.settle),
            shows_progress: !self.quiet,
            ..options
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let json = arguments.json.clone();
    let report = load::run(&arguments.options()?).await?;
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{report}");
    Ok(if report.is_exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
