//! What is counted of a call: once, whatever attempts it took and however it ended.

use crate::methods::Method;
use crate::metrics::Event;
use crate::metrics::PairMetrics;
use std::sync::Arc;
use std::time::Instant;
use tonic::Code;

#[derive(Debug)]
pub(super) struct Record {
    pub(super) metrics: Arc<PairMetrics>,
    pub(super) method: &'static Method,
    pub(super) started: Instant,
    pub(super) finished: bool,
}

impl Record {
    /// Counts something that happened to the call on its way.
    pub(super) fn count(&self, event: Event) {
        self.metrics.count(self.method, event);
    }

    pub(super) fn finish(self, code: Code) {
        self.finish_at(code, Instant::now());
    }

    pub(super) fn finish_at(mut self, code: Code, now: Instant) {
        self.observe(code, now);
    }

    fn observe(&mut self, code: Code, now: Instant) {
        self.finished = true;
        self.metrics.observe(self.method, code, now.saturating_duration_since(self.started));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.observe(Code::Cancelled, Instant::now());
        }
    }
}
