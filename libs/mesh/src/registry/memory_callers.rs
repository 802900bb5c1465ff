//! The ordinals of callers, in memory.

use super::CallerChange;
use super::Update;
use super::callers::Attendance;
use super::callers::Caller;
use super::callers::lowest_free;
use super::callers::process_name;
use super::memory::CHANGES_MAX;
use super::memory::Changes;
use super::memory::Source;
use super::memory::watch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::broadcast;

#[derive(Debug)]
pub(super) struct MemoryCallers {
    state: Mutex<State>,
    changed: broadcast::Sender<(i64, Vec<CallerChange>)>,
}

#[derive(Debug, Default)]
struct State {
    revision: i64,
    /// By service and ordinal.
    callers: BTreeMap<(String, u32), Caller>,
}

/// Gives an ordinal up when dropped.
struct Held {
    callers: Arc<MemoryCallers>,
    key: (String, u32),
}

impl Default for MemoryCallers {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: broadcast::channel(CHANGES_MAX).0 }
    }
}

impl MemoryCallers {
    pub(super) fn attend(self: &Arc<Self>, service: &str, zone: &str) -> Attendance {
        let process = process_name();
        let mut key = (service.to_owned(), 0);
        self.change(|state| {
            let own = state.callers.keys().filter(|(of, _)| of == service);
            key.1 = lowest_free(own.map(|(_, ordinal)| *ordinal));
            let caller = Caller {
                service: service.to_owned(),
                ordinal: key.1,
                process: process.clone(),
                zone: zone.to_owned(),
            };
            state.callers.insert(key.clone(), caller.clone());
            CallerChange::Put(caller)
        });
        let held = Held { callers: Arc::clone(self), key };
        Attendance::over(watch(Arc::clone(self)), service.to_owned(), process, held)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> CallerChange) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let change = change(&mut state);
        state.revision += 1;
        // An error says that nobody watches.
        self.changed.send((state.revision, vec![change])).ok();
    }
}

impl Source for MemoryCallers {
    type Entry = Caller;
    type Change = CallerChange;

    fn list(&self) -> (Changes<CallerChange>, Update<Caller, CallerChange>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = state.callers.values().cloned().collect();
        (self.changed.subscribe(), Update::Listed { revision: state.revision, entries })
    }

    fn revision(&self) -> i64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).revision
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (service, ordinal) = self.key.clone();
        self.callers.change(|state| {
            state.callers.remove(&self.key);
            CallerChange::Delete { service, ordinal }
        });
    }
}
