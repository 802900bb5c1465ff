//! Which calls are begun where they come in, by the task that reads their connection, and which in a task of their own at once.
//!
//! A handler that is done in microseconds costs less than the task that would run it. One that takes longer would keep the other
//! calls of its connection waiting, and with them a second processor idle: after one such look, the method's next calls get
//! tasks, the more the longer it took, so that what looks cost is a small share of what the calls do.

use crate::methods::METHODS;
use crate::methods::Method;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long a first look may take: some ten times what a task costs.
const LOOK_MAX: Duration = Duration::from_micros(20);
/// How many calls of a method get tasks after a look, for each `LOOK_MAX` that it took.
const TASKS_AFTER: u32 = 256;
/// How many at most, so that a method that was slow once is not held for slow for ever: some minutes' calls.
const TASKS_MAX: u32 = 1 << 20;

/// By method, how many of its next calls get tasks.
#[derive(Debug)]
pub(super) struct HeadStarts(Box<[AtomicU32]>);

/// A call that is begun where it came in.
#[derive(Debug)]
pub(super) struct HeadStart<'a>(&'a AtomicU32);

impl HeadStarts {
    pub(super) fn new() -> Self {
        Self((0..METHODS.count()).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether a call is to be begun where it comes in. None for one that no descriptor knows.
    pub(super) fn of(&self, method: &Method) -> Option<HeadStart<'_>> {
        let tasks = &self.0[method.index?];
        let left = tasks.load(Relaxed);
        if left == 0 {
            return Some(HeadStart(tasks));
        }
        // Two that come at once may count as one: that is one more task. What another look has said meanwhile holds.
        tasks.compare_exchange(left, left - 1, Relaxed, Relaxed).ok();
        None
    }
}

impl HeadStart<'_> {
    /// The first look took so long.
    pub(super) fn took(self, time: Duration) {
        if time > LOOK_MAX {
            let times = u32::try_from(time.as_nanos() / LOOK_MAX.as_nanos()).unwrap_or(u32::MAX);
            self.0.store(times.saturating_mul(TASKS_AFTER).min(TASKS_MAX), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_takes_long_gets_tasks_for_a_while() {
        let starts = HeadStarts::new();
        let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
        let other = METHODS.of_path("/linkmesh.links.v1.LinksService/CreateLink");
        starts.of(method).unwrap().took(LOOK_MAX);
        starts.of(method).unwrap().took(LOOK_MAX + Duration::from_nanos(1));
        assert_eq!((0..1_000).position(|_| starts.of(method).is_some()), Some(256));
        starts.of(method).unwrap().took(LOOK_MAX * 3);
        assert_eq!((0..1_000).position(|_| starts.of(method).is_some()), Some(768));
        starts.of(method).unwrap().took(Duration::MAX);
        assert_eq!((0..2_000_000).position(|_| starts.of(method).is_some()), Some(1 << 20));
        assert!(starts.of(other).is_some());
    }

    #[test]
    fn what_no_descriptor_knows_gets_a_task() {
        assert!(HeadStarts::new().of(METHODS.of_path("/a.B/C")).is_none());
    }
}
