//! Streams that are silent: how long nothing may be said in either direction.
//!
//! Both directions of a call share one [`Idle`]; what sends or receives touches it, and the response waits for it to pass.

use proto::common::v1::ErrorReason;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

/// Watches one stream. Clones watch the same.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    timeout: Duration,
    started: Instant,
    /// When something was last said, in microseconds from the start.
    last: Arc<AtomicU64>,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, started: Instant::now(), last: Arc::default() }
    }

    /// Something was said.
    pub(super) fn touch(&self) {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }

    /// Waits until nothing was said for too long.
    pub(super) async fn passed(self) {
        loop {
            let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
            let end = self.started + last + self.timeout;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    }

    /// What the caller is told.
    pub(super) fn status(timeout: Duration) -> Status {
        let message = format!("nothing was said in either direction for {timeout:?}");
        rpc::Error::new(Code::DeadlineExceeded, ErrorReason::StreamIdle, message).into()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}
