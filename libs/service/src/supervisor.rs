//! Everything that runs in a host, each with an owner that joins it: what fails or panics stops the process.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::assembly::Task;

/// The first failure in a process, and a signal that there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    first: Arc<OnceLock<String>>,
    signal: CancellationToken,
}

impl Failures {
    /// Waits for a failure.
    pub(crate) async fn any(&self) {
        self.signal.cancelled().await;
    }

    /// The first failure.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    fn report(&self, service: &str, task: &str, why: &str) {
        tracing::error!(service, task, error = why, "a task failed: the process stops");
        // A second failure is logged, and changes nothing.
        drop(self.first.set(format!("task `{task}` of {service} failed: {why}")));
        self.signal.cancel();
    }
}

/// A task that runs.
#[derive(Debug)]
pub(crate) struct Running {
    service: &'static str,
    name: &'static str,
    stop: CancellationToken,
    stop_within: Duration,
    handle: JoinHandle<()>,
}

impl Running {
    /// Starts a service's task.
    pub(crate) fn start(service: &'static str, task: Task, failures: Failures) -> Running {
        let stop = CancellationToken::new();
        let work = (task.start)(stop.clone());
        Running::supervise(service, task.name, task.stop_within, stop, work, failures)
    }

    /// Runs `work`, which must return soon after `stop` is cancelled.
    pub(crate) fn supervise(
        service: &'static str,
        name: &'static str,
        stop_within: Duration,
        stop: CancellationToken,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        failures: Failures,
    ) -> Running {
        let supervised = async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => tracing::debug!(task = name, "a task ended"),
                Ok(Err(error)) => failures.report(service, name, &format!("{error:#}")),
                Err(panic) => failures.report(service, name, &panic_text(panic.as_ref())),
            }
        };
        let span = tracing::info_span!("task", service, task = name);
        #[expect(clippy::disallowed_methods, reason = "the host owns the handle and joins it")]
        let handle = tokio::spawn(supervised.instrument(span));
        Running { service, name, stop, stop_within, handle }
    }

    /// Cancels the task and joins it; one that does not return in time is aborted.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if timeout(self.stop_within, &mut self.handle).await.is_err() {
            let (service, task) = (self.service, self.name);
            let seconds = self.stop_within.as_secs_f64();
            tracing::error!(service, task, seconds, "a task did not stop in time and is aborted");
            self.handle.abort();
            // Cancelled is the only way it can end now: panics are caught within.
            drop(self.handle.await);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_text() {
        let failures = Failures::default();
        let task = Task::new("relay", |_| async { panic!("no row {}", 7) });
        let running = Running::start("links", task, failures.clone());
        failures.any().await;
        assert_eq!(failures.first(), Some("task `relay` of links failed: panicked: no row 7"));
        running.stop().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_well_is_no_failure() {
        let failures = Failures::default();
        let running =
            Running::start("links", Task::new("once", |_| async { Ok(()) }), failures.clone());
        running.stop().await;
        assert_eq!(failures.first(), None);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_aborted_at_its_deadline() {
        let task =
            Task::new("deaf", |_| std::future::pending()).stop_within(Duration::from_millis(30));
        let running = Running::start("links", task, Failures::default());
        let begun = tokio::time::Instant::now();
        running.stop().await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }
}
