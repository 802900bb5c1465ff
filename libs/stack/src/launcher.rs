//! The one thread that starts child processes. The kernel ties a death signal to the *thread* that made the child, so a
//! server started from a test's or a runtime's thread would die with that thread; this one lives as long as the process.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::thread;

use anyhow::{Context as _, anyhow};

type Answer = SyncSender<io::Result<Child>>;

/// A caller waits for its answer, so this many are callers at once.
const WAITING_MAX: usize = 64;

static THREAD: OnceLock<Mutex<SyncSender<(Command, Answer)>>> = OnceLock::new();

/// Spawns `command` from the thread that never ends.
pub(crate) fn spawn(command: Command) -> anyhow::Result<Child> {
    let shown = format!("{command:?}");
    let requests = THREAD.get_or_init(|| {
        let (requests, received) = sync_channel::<(Command, Answer)>(WAITING_MAX);
        thread::Builder::new()
            .name("launcher".into())
            .spawn(move || {
                for (mut command, answer) in received {
                    // A caller that went away gets no child: it is killed where its handle is dropped.
                    answer.send(command.spawn()).ok();
                }
            })
            .expect("the system can start one more thread");
        Mutex::new(requests)
    });
    let requests = requests.lock().expect("no panic while held").clone();
    let (answer, answered) = sync_channel(1);
    requests.send((command, answer)).map_err(|_| anyhow!("the launcher thread is gone"))?;
    let child = answered.recv().context("the launcher thread is gone")?;
    child.with_context(|| format!("starting {shown}"))
}
