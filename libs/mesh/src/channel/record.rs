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

    pub(super) fn finish(mut self, code: Code) {
        self.observe(code);
    }

    fn observe(&mut self, code: Code) {
        self.finished = true;
        self.metrics.observe(self.method, code, self.started.elapsed());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.observe(Code::Cancelled);
        }
    }
}
