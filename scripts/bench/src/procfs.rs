//! CPU time of a process by thread, from /proc.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::Path;

/// What one clock tick of /proc is worth on Linux (`USER_HZ` is 100 on every architecture).
const TICK_MICROS: f64 = 10_000.0;

/// CPU microseconds of a process and those it started, user and system, by thread name; threads that have ended are under "ended".
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuMicros(BTreeMap<String, f64>);

impl CpuMicros {
    /// Reads a process as it is now.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let folder = format!("/proc/{pid}");
        let whole = ticks(&Path::new(&folder).join("stat"))?.1;
        let mut by_name = BTreeMap::new();
        let mut living = 0.0;
        for thread in std::fs::read_dir(format!("{folder}/task"))? {
            // A thread may end between the listing and the reading.
            if let Ok((name, used)) = ticks(&thread?.path().join("stat")) {
                *by_name.entry(name).or_insert(0.0) += used;
                living += used;
            }
        }
        by_name.insert("ended".to_owned(), (whole - living).max(0.0));
        Ok(Self(by_name))
    }

    /// The same of several processes, added up.
    pub(crate) fn of_all(pids: &[u32]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            for (name, used) in Self::of(*pid)?.0 {
                *sum.0.entry(name).or_insert(0.0) += used;
            }
        }
        Ok(sum)
    }

    /// What was used since `earlier`, by the threads whose name `wanted` takes.
    pub(crate) fn since(&self, earlier: &Self, wanted: impl Fn(&str) -> bool) -> f64 {
        let sum = |cpu: &Self| -> f64 {
            cpu.0.iter().filter(|(name, _)| wanted(name)).map(|(_, used)| used).sum()
        };
        sum(self) - sum(earlier)
    }
}

fn ticks(stat: &Path) -> anyhow::Result<(String, f64)> {
    let text = std::fs::read_to_string(stat)?;
    // The name is in parentheses and may hold any character; what follows it does not.
    let (head, tail) = text.rsplit_once(')').context("a stat line has a name")?;
    let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number =
        |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // proc(5): utime and stime are fields 14 and 15; the state, field 3, is the first after the name.
    Ok((name, (number(11) + number(12)) * TICK_MICROS))
}

/// Nanoseconds of CPU that the living threads of some processes have used; finer than ticks, and only for processes whose
/// threads stay.
pub(crate) fn cpu_nanos(pids: &[u32]) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            // sched-stats(5): nanoseconds on a CPU, nanoseconds waiting for one, turns.
            let used = text.split_whitespace().next().context("a schedstat has three numbers")?;
            sum += used.parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// Pages of a process that are in memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("smaps_rollup has a line Rss")?.parse()?)
}
