//! `linkmesh up`: the real thing on one machine. etcd, Redis, Kafka, Postgres with a replica, and two processes of every
//! service, each its own operating-system process that outlives this command and its terminal.
//!
//! What must stay true: a member keeps its name, ports and data until `down`; starting what runs changes nothing; whatever
//! was killed can be started again by name; and `down` leaves neither a process nor a file behind. There is no supervisor:
//! `cluster.json` in the folder says who runs, by process id and start time, so any later command finds everyone.

mod configuration;
mod launch;
mod report;
mod roster;
mod site;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};
use stack::Signal;

use self::roster::Member;
use self::site::Site;

/// Everything in separate processes on this machine, with real etcd, Redis, Kafka and Postgres
///
/// Without a command: `start`. What was started outlives the terminal, until `down`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where configuration, data, logs and the list of processes live. Two folders are two clusters.
    #[arg(long, global = true, value_name = "DIR", default_value = ".data/up")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be done with the cluster. Names are those that `status` prints: etcd, redis, kafka, postgres, replica,
/// control-1, control-2, identity-1, identity-2, links-1, links-2, analytics-1, analytics-2, edge-1, edge-2.
#[derive(Debug, Subcommand)]
enum Command {
    /// Start whatever does not run; the first time, also choose ports, migrate, and make a workspace with an API key
    Start {
        /// How long the certificates of the services live, 10s to 72h; kept for later starts. They are renewed at 70 % of it
        #[arg(long, value_name = "TIME")]
        certificate_life: Option<String>,
    },
    /// Print every member with its state, process id and port
    Status,
    /// Stop these members if they run, and start them again on the same ports and data
    Restart {
        /// Members to restart
        #[arg(required = true)]
        names: Vec<Member>,
    },
    /// Ask these members to stop (drain, flush), or all; keeps ports and data
    Stop {
        /// Members to stop; none: all of them, edges first, servers last
        names: Vec<Member>,
    },
    /// Send a signal to these members, SIGKILL unless told otherwise; for trying out what happens then
    Kill {
        /// Members to signal
        #[arg(required = true)]
        names: Vec<Member>,
        /// What to send
        #[arg(long, value_enum, default_value_t = SignalName::Kill)]
        signal: SignalName,
    },
    /// Stop everything and remove the folder, data included
    Down {
        /// Kill instead of asking: nothing is drained, since its data go anyway
        #[arg(long)]
        now: bool,
    },
}

/// Signals worth trying on a running member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignalName {
    /// Ends it without a word
    Kill,
    /// Asks it to stop
    Term,
    /// Freezes it: connections stay open and silent
    Stop,
    /// Lets a frozen one go on
    Cont,
}

impl From<SignalName> for Signal {
    fn from(name: SignalName) -> Self {
        match name {
            SignalName::Kill => Self::Kill,
            SignalName::Term => Self::Terminate,
            SignalName::Stop => Self::Freeze,
            SignalName::Cont => Self::Thaw,
        }
    }
}

/// The longest that a killed process may take to be gone.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs one `linkmesh up` command to its end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let folder = arguments.folder;
    match arguments.command.unwrap_or(Command::Start { certificate_life: None }) {
        Command::Start { certificate_life } => {
            let mut site = Site::open_or_create(&folder)?;
            if certificate_life.is_some() {
                site.saved.certificate_life = certificate_life;
                site.save()?;
            }
            start(&mut site).await
        }
        Command::Status => report::status(&Site::look(&folder)?),
        Command::Restart { names } => {
            let mut site = Site::open(&folder)?;
            for member in names {
                stop_member(&site, member).await?;
                launch::start(&mut site, member).await?;
            }
            report::write_environment(&site)
        }
        Command::Stop { names } if names.is_empty() => stop_all(&Site::open(&folder)?).await,
        Command::Stop { names } => {
            let site = Site::open(&folder)?;
            for member in names {
                stop_member(&site, member).await?;
            }
            Ok(())
        }
        Command::Kill { names, signal } => kill(&Site::look(&folder)?, &names, signal).await,
        Command::Down { now } => down(&folder, now).await,
    }
}

async fn start(site: &mut Site) -> anyhow::Result<()> {
    launch::start_servers(site).await?;
    launch::migrate(site).await?;
    configuration::write_all(site)?;
    launch::start_services(site).await?;
    if site.saved.seed.is_none() {
        site.saved.seed = Some(launch::seed(site).await?);
        site.save()?;
    }
    report::write_environment(site)?;
    report::welcome(site)
}

async fn kill(site: &Site, names: &[Member], signal: SignalName) -> anyhow::Result<()> {
    for member in names {
        let process = site.running(*member);
        let process = process.with_context(|| format!("{member} does not run"))?;
        process.signal(signal.into());
        if signal == SignalName::Kill {
            process.ended(KILL_TIME_MAX).await?;
        }
        report::line(&format!("{member}: sent {signal:?} to process {}", process.pid))?;
    }
    Ok(())
}

async fn stop_all(site: &Site) -> anyhow::Result<()> {
    for group in roster::stop_order() {
        // One after the other within a group too would wait for every drain in turn.
        let stops = group.into_iter().map(|member| stop_member(site, member));
        for stopped in futures_util::future::join_all(stops).await {
            stopped?;
        }
    }
    Ok(())
}

async fn stop_member(site: &Site, member: Member) -> anyhow::Result<()> {
    let Some(process) = site.running(member) else { return Ok(()) };
    process.signal(Signal::Thaw);
    process.signal(member.stop_signal());
    if process.ended(member.stop_time_max()).await.is_err() {
        report::line(&format!("{member}: still there after its time; killed"))?;
        process.signal(Signal::Kill);
        process.ended(KILL_TIME_MAX).await?;
        return Ok(());
    }
    report::line(&format!("{member}: stopped"))
}

async fn down(folder: &Path, now: bool) -> anyhow::Result<()> {
    if !folder.exists() {
        return report::line("nothing is up");
    }
    if now {
        // Before the lock is waited for: whoever holds it may be waiting for what is killed here.
        for process in Member::all().filter_map(|member| Site::look(folder).ok()?.running(member)) {
            process.signal(Signal::Kill);
        }
    }
    let site = Site::open(folder)?;
    if now {
        for process in Member::all().filter_map(|member| site.running(member)) {
            process.signal(Signal::Kill);
            process.ended(KILL_TIME_MAX).await?;
        }
    }
    stop_all(&site).await?;
    let left: Vec<String> =
        Member::all().filter(|m| site.running(*m).is_some()).map(|m| m.to_string()).collect();
    ensure!(left.is_empty(), "still running: {}", left.join(", "));
    site.remove()?;
    report::line("everything is stopped, and its data removed")
}
