//! A program to run as a server: in a session of its own (Ctrl-C in a terminal does not reach it), silent, logged to a file.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::process::EXIT_POLL_INTERVAL;
use crate::{Account, ProcessId, Signal, launcher};

/// How long a started program lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It gets its stop signal when this process ends, however that ends, SIGKILL included.
    Bound,
    /// It survives this process and its terminal, until someone stops it.
    Detached,
}

/// A command line with its surroundings; starting it twice gives the same server twice.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable, found by path.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Added to this process's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Working folder; exists.
    pub folder: PathBuf,
    /// Both of its outputs are appended here.
    pub log: PathBuf,
    /// Whom to run as, if not as this process's user. Only root can switch.
    pub account: Option<Account>,
    /// Whether it dies with this process.
    pub lifetime: Lifetime,
    /// Sent to a [`Lifetime::Bound`] program when this process ends or drops it. It must end the program soon.
    pub farewell: Signal,
}

/// A started program. Dropping a bound one ends it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: ProcessId,
    child: Mutex<Child>,
    lifetime: Lifetime,
    farewell: Signal,
}

/// How long a bound program may take to heed its farewell; it is killed then.
const FAREWELL_MAX: Duration = Duration::from_secs(10);
/// The last bytes of a log that go into an error message.
const LOG_TAIL_BYTES_MAX: usize = 2_000;

/// Refuses to run if this process ended before the death signal was set: then nobody would ever send it.
const GUARD: &str = r#"[ "$PPID" = "$0" ] || exit 1; exec "$@""#;

impl Program {
    /// Starts it and returns at once; says nothing about readiness.
    ///
    /// # Errors
    /// The executable or its log can't be opened.
    pub fn start_detached(&self) -> anyhow::Result<ProcessId> {
        assert_eq!(self.lifetime, Lifetime::Detached, "a bound program needs an owner");
        Ok(self.start()?.id)
    }

    pub(crate) fn start(&self) -> anyhow::Result<Running> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("opening the log {}", self.log.display()))?;
        let mut command = self.command();
        command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log);
        let child = launcher::spawn(command)?;
        let id = match ProcessId::of(child.id()) {
            Ok(id) => id,
            Err(error) => return Err(error.context(self.last_words())),
        };
        Ok(Running {
            id,
            child: Mutex::new(child),
            lifetime: self.lifetime,
            farewell: self.farewell,
        })
    }

    /// Runs it to its end, for programs that prepare a server's data.
    pub(crate) async fn run(&self, patience: Duration) -> anyhow::Result<()> {
        let running = self.start()?;
        let status = tokio::time::timeout(patience, running.exited());
        let name = self.executable.display();
        let status =
            status.await.with_context(|| format!("{name} took longer than {patience:?}"))?;
        anyhow::ensure!(status.success(), "{name} failed ({status}): {}", self.last_words());
        Ok(())
    }

    /// The end of its log, for an error message.
    pub fn last_words(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        format!(
            "…{}\n(all of it in {})",
            String::from_utf8_lossy(&bytes[from..]),
            self.log.display()
        )
    }

    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(Account { name, gid, .. }) = &self.account {
            words.push("setpriv".into());
            words.push(format!("--reuid={name}").into());
            words.push(format!("--regid={gid}").into());
            words.push("--init-groups".into());
        }
        if self.lifetime == Lifetime::Bound {
            if words.is_empty() {
                words.push("setpriv".into());
            }
            words.push("--pdeathsig".into());
            words.push(signal_name(self.farewell).into());
            words.extend(["sh".into(), "-c".into(), GUARD.into()]);
            words.push(std::process::id().to_string().into());
        }
        words.push(self.executable.clone().into_os_string());
        words.extend(self.arguments.iter().cloned());
        // `setsid` executes in place: the child's id is the server's, its session's and its group's.
        let mut command = Command::new("setsid");
        command.args(words);
        command
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Kill => "KILL",
        Signal::Terminate => "TERM",
        Signal::Interrupt => "INT",
        Signal::Quit => "QUIT",
        Signal::Freeze | Signal::Thaw => unreachable!("neither ends a program"),
    }
}

impl Running {
    /// Its status once it has ended; collects the zombie.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().expect("no panic while held").try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub(crate) async fn exited(&self) -> ExitStatus {
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            tokio::time::sleep(EXIT_POLL_INTERVAL).await;
        }
    }

    /// Sends the signal and waits for the end; after `patience` it is killed.
    pub(crate) async fn end(&self, signal: Signal, patience: Duration) {
        self.id.signal(Signal::Thaw);
        self.id.signal(signal);
        if self.id.ended(patience).await.is_err() {
            self.id.signal(Signal::Kill);
            self.id.ended(patience).await.ok();
        }
        self.exit_status();
    }
}

impl Drop for Running {
    #[expect(
        clippy::disallowed_methods,
        reason = "it polls with a deadline, where nothing can be awaited"
    )]
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached || self.exit_status().is_some() {
            return;
        }
        self.id.signal(Signal::Thaw);
        self.id.signal(self.farewell);
        let mut child = self.child.lock().expect("no panic while held");
        let until = Instant::now() + FAREWELL_MAX;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                child.kill().and_then(|()| child.wait()).ok();
                return;
            }
            std::thread::sleep(EXIT_POLL_INTERVAL);
        }
    }
}
