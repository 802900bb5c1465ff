//! Which processes of a service call others: each holds an ordinal, so that callers can share instances out without asking each
//! other (`balancing.aperture` of a policy).

use super::Update;
use super::Watch;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A process that calls, as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The service that it belongs to.
    pub service: String,
    /// The lowest number that was free in its service when it came.
    pub ordinal: u32,
    /// Which process it is.
    pub process: String,
    /// The failure domain it runs in.
    pub zone: String,
}

/// One change of the callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerChange {
    /// It holds an ordinal from now on.
    Put(Caller),
    /// The ordinal is free.
    Delete {
        /// The service.
        service: String,
        /// The ordinal.
        ordinal: u32,
    },
}

/// The callers of one service, by ordinal, as one of them sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// The ordinal of who looks; none if it has none yet.
    pub own: Option<u32>,
    /// The zone of each.
    pub zones: BTreeMap<u32, String>,
}

/// Holds an ordinal, and follows who else has one; given up when dropped.
#[derive(Debug)]
pub struct Attendance {
    rosters: watch::Receiver<Arc<Roster>>,
    _task: AbortOnDropHandle<()>,
}

impl Attendance {
    /// Follows what an adapter reports of the callers of `service`, of which `process` is one. `held` is kept as long.
    pub(crate) fn over(
        mut updates: Watch<Caller, CallerChange>,
        service: String,
        process: String,
        held: impl Send + 'static,
    ) -> Self {
        let (sender, rosters) = watch::channel(Arc::default());
        #[expect(clippy::disallowed_methods, reason = "the attendance owns the task and ends it")]
        let task = tokio::spawn(async move {
            let _held = held;
            let mut callers = BTreeMap::new();
            while let Some(update) = updates.next().await {
                take(&mut callers, update, &service);
                let roster = roster(&callers, &process);
                sender.send_if_modified(|sent| {
                    let is_news = **sent != roster;
                    *sent = Arc::new(roster);
                    is_news
                });
            }
        });
        Self { rosters, _task: AbortOnDropHandle::new(task) }
    }

    /// The newest roster, seen or not.
    #[must_use]
    pub fn newest(&self) -> Arc<Roster> {
        self.rosters.borrow().clone()
    }

    /// The newest roster, once there is one that was not seen; none when the registry is gone for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Roster>> {
        self.rosters.changed().await.ok()?;
        Some(self.rosters.borrow_and_update().clone())
    }
}

fn take(callers: &mut BTreeMap<u32, Caller>, update: Update<Caller, CallerChange>, service: &str) {
    match update {
        Update::Alive { .. } => {}
        Update::Listed { entries, .. } => {
            let own = entries.into_iter().filter(|caller| caller.service == service);
            *callers = own.map(|caller| (caller.ordinal, caller)).collect();
        }
        Update::Changed { changes, .. } => {
            for change in changes {
                match change {
                    CallerChange::Put(caller) if caller.service == service => {
                        callers.insert(caller.ordinal, caller);
                    }
                    CallerChange::Delete { service: of, ordinal } if of == service => {
                        callers.remove(&ordinal);
                    }
                    CallerChange::Put(_) | CallerChange::Delete { .. } => {}
                }
            }
        }
    }
}

fn roster(callers: &BTreeMap<u32, Caller>, process: &str) -> Roster {
    let own = callers.values().find(|caller| caller.process == process);
    Roster {
        own: own.map(|caller| caller.ordinal),
        zones: callers.iter().map(|(ordinal, caller)| (*ordinal, caller.zone.clone())).collect(),
    }
}

/// The lowest ordinal that is not taken.
pub(crate) fn lowest_free(taken: impl IntoIterator<Item = u32>) -> u32 {
    let mut taken: Vec<u32> = taken.into_iter().collect();
    taken.sort_unstable();
    let mut lowest = 0;
    for ordinal in taken {
        if ordinal == lowest {
            lowest += 1;
        }
    }
    lowest
}

/// A name that no other process has.
pub(crate) fn process_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        assert_eq!(lowest_free([]), 0);
        assert_eq!(lowest_free([2, 0, 1]), 3);
        assert_eq!(lowest_free([5, 0, 2]), 1);
        assert_eq!(lowest_free([1, 1]), 0);
    }
}
