//! The thread that makes the spool durable in groups and notices that a day begins.
//!
//! What was written and not yet synced survives the process, not the machine: a power failure takes at most what was
//! appended in the last `sync_every` (and while a sync was under way).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::spool::commit::Commit;
use crate::spool::disk::Disk;
use crate::spool::ledger::Ledger;
use crate::spool::ledger::Unsynced;

/// Owns the thread; dropped, it syncs a last time and joins it.
#[derive(Debug)]
pub(crate) struct Syncer {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Work {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    commit: Arc<Commit>,
}

impl Syncer {
    pub(crate) fn start(
        every: Duration,
        folder: PathBuf,
        disk: Arc<dyn Disk>,
        ledger: Arc<Ledger>,
        commit: Arc<Commit>,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let work = Work { folder, disk, ledger, commit };
        let thread = std::thread::Builder::new()
            .name("spool-sync".to_owned())
            .spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                    work.sync();
                    work.commit.roll_day(Timestamp::now());
                }
                work.sync();
            })
            .context("the spool's sync thread can't be started")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the spool's sync thread panicked");
        }
    }
}

impl Work {
    fn sync(&self) {
        let unsynced = self.ledger.take_unsynced();
        if unsynced.iter().any(|one| one.synced_bytes == 0)
            && let Err(error) = self.disk.sync_folder(&self.folder)
        {
            tracing::error!(folder = %self.folder.display(), %error, "spool folder can't be synced");
        }
        let kept = unsynced.into_iter().filter_map(|one| self.sync_segment(one)).collect();
        self.ledger.keep_unsynced(kept);
    }

    /// Syncs what was written since the last time; gives the segment back while more may come.
    fn sync_segment(&self, mut unsynced: Unsynced) -> Option<Unsynced> {
        let sealed = unsynced.segment.final_bytes().is_some();
        let written = unsynced.segment.written();
        if written > unsynced.synced_bytes {
            let begun = Instant::now();
            if let Err(error) = unsynced.file.sync() {
                // The kernel has forgotten which pages it could not write: asking again would succeed and prove nothing.
                tracing::error!(path = %unsynced.segment.path.display(), %error, "segment can't be synced");
                self.ledger.roll_wanted.store(true, Ordering::Relaxed);
            }
            self.ledger.metrics.sync_seconds.observe(begun.elapsed().as_secs_f64());
            unsynced.synced_bytes = written;
        }
        (!sealed).then_some(unsynced)
    }
}
