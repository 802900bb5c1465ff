//! Programs of others that are measured beside ours: each listens on a port, writes its log into a file, and ends when dropped.

use anyhow::Context as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

/// How long one may take to listen.
const START_WAIT_MAX: Duration = Duration::from_secs(30);
const START_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts one, and waits until it listens.
pub(crate) async fn start(
    mut command: Command,
    folder: &Path,
    name: &str,
    port: u16,
) -> anyhow::Result<Child> {
    let path = folder.join(format!("{name}.log"));
    let log = std::fs::File::create(&path)?;
    let mut process = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{name} does not start; `scripts/setup.sh bench` installs it"))?;
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let ended = process.try_wait()?;
        anyhow::ensure!(
            ended.is_none() && start.elapsed() < START_WAIT_MAX,
            "{name} does not listen: {}",
            std::fs::read_to_string(&path).unwrap_or_default()
        );
        tokio::time::sleep(START_LOOK_EVERY).await;
    }
    Ok(process)
}
