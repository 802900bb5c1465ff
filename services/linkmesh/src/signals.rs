//! Ctrl-C and SIGTERM: the first asks for an orderly stop, a second Ctrl-C ends the process at once.

use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

use crate::print;

/// The exit code of a process that a second Ctrl-C has ended: 128 + SIGINT.
const EXIT_FORCED: i32 = 130;

/// Runs `work` to its end; cancels `stop` at the first signal.
pub(crate) async fn stopping<T>(
    stop: CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut interrupts = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminations = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let watch = async {
        loop {
            tokio::select! {
                _ = interrupts.recv() => {
                    if stop.is_cancelled() {
                        print::problem("ended before everything was stopped");
                        // Servers that this process started die with it.
                        std::process::exit(EXIT_FORCED);
                    }
                    print::problem("stopping; Ctrl-C again to end at once");
                    stop.cancel();
                }
                _ = terminations.recv() => stop.cancel(),
            }
        }
    };
    tokio::select! {
        result = work => result,
        never = watch => never,
    }
}
