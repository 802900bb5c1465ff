//! This program, started again as one side of a measurement: its CPU and memory are then its own.
//!
//! A child says what its parent needs in one line of JSON, and lives until its standard input ends: no longer than its
//! parent, however that ends.

use super::callee;
use super::instructions;
use super::memory;
use super::tail;
use crate::edge::service;
use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::process::Command;

/// How long a child may take until it is ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// What a child is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Answers calls.
    Callee(callee::Setup),
    /// Answers the edge's calls, and Envoy's.
    Links(service::Setup),
    /// Ten servers of which one is different.
    Backends(tail::Setup),
    /// Holds endpoints, and says what they take.
    Memory(memory::Setup),
    /// Makes a number of calls, or of picks, to have its instructions counted.
    Instructions(instructions::Setup),
}

/// The role as an argument of the command line.
pub(crate) fn parse(text: &str) -> Result<Role, serde_json::Error> {
    serde_json::from_str(text)
}

impl Role {
    pub(crate) fn argument(&self) -> anyhow::Result<String> {
        Ok(format!("--child={}", serde_json::to_string(self)?))
    }

    /// Whether it is to run on one thread: what is counted is then the same from run to run.
    pub(crate) fn is_single_threaded(&self) -> bool {
        matches!(self, Self::Instructions(_) | Self::Memory(_))
    }

    /// Plays it to its end.
    pub(crate) async fn play(self) -> anyhow::Result<()> {
        match self {
            Self::Callee(setup) => callee::play(setup).await,
            Self::Links(setup) => service::play(setup).await,
            Self::Backends(setup) => tail::play(setup).await,
            Self::Memory(setup) => memory::play(setup).await,
            Self::Instructions(setup) => instructions::play(setup).await,
        }
    }
}

/// A running child; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
}

impl Child {
    /// Starts one, and returns what it says once it is ready.
    pub(crate) async fn start<T: DeserializeOwned>(role: &Role) -> anyhow::Result<(Self, T)> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role.argument()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        let mut output = BufReader::new(output);
        let read = tokio::time::timeout(READY_WAIT_MAX, output.read_line(&mut line));
        read.await.with_context(|| format!("{role:?} was not ready in {READY_WAIT_MAX:?}"))??;
        let said =
            serde_json::from_str(&line).with_context(|| format!("{role:?} said `{line}`"))?;
        Ok((Self { process }, said))
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("the child has ended")
    }
}

/// In a child: says what the parent needs, and waits until the parent is done.
pub(crate) async fn ready(said: &impl Serialize) -> anyhow::Result<()> {
    crate::say(&serde_json::to_string(said)?);
    let (ended, input_ended) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime's would keep the process from ending.
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || ended.send(std::io::stdin().read_to_end(&mut Vec::new()).map(drop)).ok())?;
    input_ended.await?.context("reading what the parent says")
}
