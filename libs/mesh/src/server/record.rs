//! What is told of a call when it ends, however that is: metrics, the concurrency limit, taps.

use super::Shared;
use super::concurrency::Permit;
use super::tap::TappedCall;
use crate::methods::Method;
use crate::metrics::Event;
use crate::metrics::PairMetrics;
use std::sync::Arc;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

pub(super) struct Record {
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<PairMetrics>,
    pub(super) method: &'static Method,
    pub(super) started: Instant,
    /// If someone watches.
    pub(super) tap: Option<Arc<TappedCall>>,
    /// From when it was let in until its handler is done; a stream, until it ends.
    pub(super) permit: Option<Permit>,
    pub(super) finished: bool,
}

impl Record {
    /// It ended with this code, and this in words.
    pub(super) fn finish(mut self, code: Code, message: &str) {
        self.finish_once(code, message);
    }

    /// It was not done, or not to its end.
    pub(super) fn refused(self, status: &Status) {
        self.finish(status.code(), status.message());
    }

    /// A layer did something with it.
    pub(super) fn count(&self, event: Event) {
        self.metrics.count(self.method, event);
    }

    /// Its handler is done: it makes room for another call.
    pub(super) fn worked(&mut self, code: Code) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        let took = now.saturating_duration_since(self.started);
        permit.finish(code, took, now.saturating_duration_since(self.shared.started));
    }

    fn finish_once(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.worked(code);
        self.metrics.observe(self.method, code, self.started.elapsed());
        if let Some(tap) = self.tap.take() {
            tap.end(code, message);
        }
    }
}

/// The peer went away before the end, or the connection did.
impl Drop for Record {
    fn drop(&mut self) {
        self.finish_once(Code::Cancelled, "");
    }
}
