//! What all servers have in common: options, a life cycle, and waiting until they serve.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::sync::Mutex;

use crate::program::Running;
use crate::{Lifetime, ProcessId, Program, Signal, port};

/// Where a server keeps its data and which port it has.
#[derive(Debug, Clone)]
pub struct Options {
    /// Made if missing. What an earlier server left there is used again.
    pub folder: PathBuf,
    /// On loopback; see [`port::free`].
    pub port: u16,
    /// Whether the server dies with this process.
    pub lifetime: Lifetime,
}

impl Options {
    /// A bound server on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub fn bound(folder: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.into(), port: port::free()?, lifetime: Lifetime::Bound })
    }
}

/// Starts that end at once, in a row, before a server is given up: a predecessor that was killed may hold its files and
/// its port for a moment longer.
const START_ATTEMPTS_MAX: u32 = 10;
const START_ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// How often readiness is asked for.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A server process that can be ended and started again, on the same data and port. Dropping a bound one ends it.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    program: Program,
    ready: Ready,
    limits: Limits,
    running: Mutex<Option<Running>>,
}

/// The longest that a server may take to serve, and to stop when asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) start_max: Duration,
    pub(crate) stop_max: Duration,
    pub(crate) stop_signal: Signal,
}

/// How to find out whether it serves.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    Etcd { port: u16 },
    Kafka { port: u16 },
    Redis { port: u16 },
    Postgres { url: String, data: PathBuf },
}

impl Ready {
    async fn ask(&self) -> bool {
        match self {
            Self::Etcd { port } => crate::etcd::is_healthy(*port).await,
            Self::Kafka { port } => crate::kafka::serves(*port).await,
            Self::Redis { port } => crate::redis::answers(*port).await,
            Self::Postgres { url, .. } => crate::postgres::answers(url).await,
        }
    }
}

impl Server {
    pub(crate) async fn start(
        name: &'static str,
        program: Program,
        ready: Ready,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let server = Self { name, program, ready, limits, running: Mutex::default() };
        server.restart().await?;
        Ok(server)
    }

    /// The process, while there is one.
    pub async fn process(&self) -> Option<ProcessId> {
        self.running.lock().await.as_ref().map(|running| running.id)
    }

    /// Ends it without a word, as a crash would. Returns when it is gone.
    pub async fn kill(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.end(Signal::Kill, self.limits.stop_max).await;
        }
    }

    /// Asks it to stop and waits; if it takes too long, it is killed.
    pub async fn stop(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.end(self.limits.stop_signal, self.limits.stop_max).await;
        }
    }

    /// Freezes it: its connections stay open and silent.
    pub async fn freeze(&self) {
        if let Some(running) = self.running.lock().await.as_ref() {
            running.id.signal(Signal::Freeze);
        }
    }

    /// Lets a frozen server go on.
    pub async fn thaw(&self) {
        if let Some(running) = self.running.lock().await.as_ref() {
            running.id.signal(Signal::Thaw);
        }
    }

    /// Starts it (again), on the same data and port; one that runs is stopped first. Returns when it serves.
    ///
    /// # Errors
    /// It does not serve in time; the message ends with the server's last words.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        let deadline = Instant::now() + self.limits.start_max;
        let mut running = self.running.lock().await;
        let mut attempts = 0;
        loop {
            if let Ready::Postgres { data, .. } = &self.ready {
                crate::postgres::forget_the_dead(data);
            }
            attempts += 1;
            let started = self.program.start()?;
            match self.wait_until_ready(&started, deadline).await {
                Ok(()) => {
                    *running = Some(started);
                    return Ok(());
                }
                Err(error) if started.exit_status().is_none() || attempts == START_ATTEMPTS_MAX => {
                    started.end(Signal::Kill, self.limits.stop_max).await;
                    return Err(error);
                }
                Err(_ended) => tokio::time::sleep(START_ATTEMPT_PAUSE).await,
            }
        }
    }

    async fn wait_until_ready(&self, running: &Running, deadline: Instant) -> anyhow::Result<()> {
        let name = self.name;
        loop {
            // Whoever else has the port may accept and keep silent: its end is noticed meanwhile.
            let answers = tokio::select! {
                status = running.exited() => bail!("{name} ended ({status}): {}", self.program.last_words()),
                answers = self.ready.ask() => answers,
            };
            // Someone else may answer on the port in its place.
            if answers && running.exit_status().is_none() {
                return Ok(());
            }
            let start_max = self.limits.start_max;
            ensure!(
                Instant::now() < deadline,
                "{name} does not serve after {start_max:?}: {}",
                self.program.last_words()
            );
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
    }
}
