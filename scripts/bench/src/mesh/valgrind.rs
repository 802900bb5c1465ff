//! Children under valgrind: what they do is then counted, not timed, and the same on a busy machine.

use super::child::Role;
use anyhow::Context as _;
use std::process::Stdio;
use tokio::process::Command;

/// How many instructions a child takes from start to end, the kernel's not among them.
pub(super) async fn instructions(role: &Role) -> anyhow::Result<f64> {
    let text = run(role, &["--tool=callgrind", "--callgrind-out-file=/dev/null"]).await?;
    let (_, after) = text.split_once("Collected :").context("callgrind says what it collected")?;
    let number = after.split_whitespace().next().context("callgrind says how much")?;
    Ok(number.parse()?)
}

/// The most bytes that a child's heap has at a time, the allocator's own among them.
pub(super) async fn heap_bytes(role: &Role) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("massif");
    let output = format!("--massif-out-file={}", path.display());
    run(role, &["--tool=massif", "--depth=1", "--peak-inaccuracy=0.0", &output]).await?;
    let text = std::fs::read_to_string(path)?;
    let numbers = |name: &str| -> Vec<f64> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.flat_map(str::parse).collect()
    };
    let snapshots = numbers("mem_heap_B").into_iter().zip(numbers("mem_heap_extra_B"));
    snapshots.map(|(asked, extra)| asked + extra).reduce(f64::max).context("massif took snapshots")
}

async fn run(role: &Role, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("valgrind")
        .args(arguments)
        .arg(std::env::current_exe()?)
        .arg(role.argument()?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("there is no valgrind; install it with `scripts/setup.sh bench`")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{role:?} failed: {text}");
    Ok(text)
}
