//! Calls that wait for an endpoint: how many, and how they are woken.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// How many calls may wait at a time; those above are refused at once.
const WAITING_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    changed: Notify,
}

/// One call that waits.
#[derive(Debug)]
pub(super) struct Ticket<'a>(&'a Waiting);

impl Waiting {
    /// Begins to wait; none if too many do.
    pub(super) fn enter(&self) -> Option<Ticket<'_>> {
        if self.count.fetch_add(1, Ordering::SeqCst) >= WAITING_MAX {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Ticket(self))
    }

    /// Tells all that wait that something changed; costs next to nothing if none does.
    pub(super) fn wake_all(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Ticket<'_> {
    /// A future that is woken by a change from now on, polled or not.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}
