//! Names a process so that it can be found again, by this process or a later one, and never mistaken for another.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// What can be done to a process from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends it without a word (SIGKILL); its whole group.
    Kill,
    /// Asks it to stop (SIGTERM).
    Terminate,
    /// As Ctrl-C does (SIGINT); Postgres: disconnect everyone and stop.
    Interrupt,
    /// Postgres: stop at once, recover at the next start (SIGQUIT).
    Quit,
    /// Freezes it (SIGSTOP): connections stay open and silent; its whole group.
    Freeze,
    /// Lets a frozen one go on (SIGCONT); its whole group.
    Thaw,
}

/// A process id together with the start time that tells it from a later process of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number that `ps` shows.
    pub pid: i32,
    /// Clock ticks between the machine's start and the process's.
    started: u64,
}

/// How often an exit is looked for.
pub(crate) const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

impl ProcessId {
    /// The running process of this number.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let pid = i32::try_from(pid).context("a process id is positive and small")?;
        let status = Status::read(pid).with_context(|| format!("no process {pid}"))?;
        Ok(Self { pid, started: status.started })
    }

    /// True until it has ended. A zombie that nobody has collected counts as ended.
    pub fn is_running(&self) -> bool {
        Status::read(self.pid).is_some_and(|s| s.started == self.started && !s.is_zombie)
    }

    /// Sends a signal, or does nothing if the process has ended.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_running()) else { return };
        let number = match signal {
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Quit => rustix::process::Signal::QUIT,
            Signal::Freeze => rustix::process::Signal::STOP,
            Signal::Thaw => rustix::process::Signal::CONT,
        };
        let whole_group = matches!(signal, Signal::Kill | Signal::Freeze | Signal::Thaw);
        // Either fails only if the process ended between the look and the signal, which is what is wanted.
        if !whole_group || kill_process_group(pid, number).is_err() {
            kill_process(pid, number).ok();
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It is still there after `patience`.
    pub async fn ended(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while self.is_running() {
            ensure!(
                Instant::now() < deadline,
                "process {} still runs after {patience:?}",
                self.pid
            );
            tokio::time::sleep(EXIT_POLL_INTERVAL).await;
        }
        Ok(())
    }
}

struct Status {
    started: u64,
    is_zombie: bool,
}

impl Status {
    /// Reads `/proc/PID/stat`, whose second field is a name in parentheses that may itself contain anything.
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let started = fields.get(19)?.parse().ok()?;
        let is_zombie = matches!(*fields.first()?, "Z" | "X");
        Some(Self { started, is_zombie })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_mistaken_for_another_of_its_number() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_running());
        assert!(!ProcessId { started: me.started + 1, ..me }.is_running());
    }
}
