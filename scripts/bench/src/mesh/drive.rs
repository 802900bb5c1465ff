//! How callers are driven: saturated, or at a rate; and in which order sides take turns.

use super::client::Client;
use super::client::payload;
use crate::procfs;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;

/// Histograms tell values apart by three digits, up to a minute.
const NANOS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;
/// What a pacer does not trust a sleep with: it spins instead.
const SPIN: Duration = Duration::from_micros(80);

/// Whose turn it is, for each turn of a round: every side twice, the second time in the opposite order, and another side
/// first in the next round. What drifts meanwhile meets all of them alike.
pub(crate) fn turns(round: usize, sides: usize) -> Vec<usize> {
    let forth: Vec<usize> = (0..sides).map(|side| (round + side) % sides).collect();
    let back = forth.iter().rev().copied().collect();
    [forth, back].concat()
}

/// What was done in one or more slices of time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Slice {
    pub(super) calls: f64,
    pub(super) seconds: f64,
    /// CPU of this process, which is the caller.
    pub(super) client_nanos: f64,
    /// CPU of all others that took part.
    pub(super) other_nanos: f64,
}

impl Slice {
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.client_nanos += other.client_nanos;
        self.other_nanos += other.other_nanos;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.calls / self.seconds
    }

    pub(super) fn client_micros(&self) -> f64 {
        self.client_nanos / 1_000.0 / self.calls
    }

    pub(super) fn all_micros(&self) -> f64 {
        (self.client_nanos + self.other_nanos) / 1_000.0 / self.calls
    }
}

/// Keeps so many calls in flight for so long.
pub(super) async fn saturate(
    client: &Client,
    in_flight: usize,
    duration: Duration,
    others: &[u32],
) -> anyhow::Result<Slice> {
    let us = std::process::id();
    let (client_before, other_before) = (procfs::cpu_nanos(&[us])?, procfs::cpu_nanos(others)?);
    let start = Instant::now();
    let end = start + duration;
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let mut client = client.clone();
        callers.spawn(async move {
            let slug = payload();
            let mut calls = 0_u64;
            while Instant::now() < end {
                client.call(&slug).await?;
                calls += 1;
            }
            anyhow::Ok(calls)
        });
    }
    let mut calls = 0;
    while let Some(made) = callers.join_next().await {
        calls += made?.context("a call failed")?;
    }
    Ok(Slice {
        calls: calls as f64,
        seconds: start.elapsed().as_secs_f64(),
        client_nanos: procfs::cpu_nanos(&[us])? - client_before,
        other_nanos: procfs::cpu_nanos(others)? - other_before,
    })
}

/// How calls at a rate went.
#[derive(Debug, Clone)]
pub(super) struct Paced {
    /// Of those that succeeded, in nanoseconds from when each was due: a caller that is late is not forgiven.
    pub(super) nanos: Histogram<u64>,
    pub(super) failed: u64,
}

impl Paced {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { nanos: Histogram::new_with_max(NANOS_MAX, DIGITS)?, failed: 0 })
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.nanos.add(&other.nanos)?;
        self.failed += other.failed;
        Ok(())
    }

    pub(super) fn micros_at(&self, quantile: f64) -> f64 {
        self.nanos.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// The same over all calls, one that failed counted as if it had taken so long.
    pub(super) fn micros_at_of_all(&self, quantile: f64, failed: Duration) -> f64 {
        let mut all = self.nanos.clone();
        let nanos = u64::try_from(failed.as_nanos()).unwrap_or(NANOS_MAX);
        all.saturating_record_n(nanos, self.failed);
        all.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// The share that succeeded.
    pub(super) fn success(&self) -> f64 {
        let ok = self.nanos.len() as f64;
        ok / (ok + self.failed as f64)
    }
}

/// Makes calls at a fixed rate, whether or not those before are answered; each is given up after a while, if that is said.
pub(super) async fn pace(
    client: &Client,
    per_second: u32,
    duration: Duration,
    within: Option<Duration>,
) -> anyhow::Result<Paced> {
    let runtime = tokio::runtime::Handle::current();
    let client = client.clone();
    let gap = Duration::from_secs(1) / per_second;
    let calls = duration.as_nanos() / gap.as_nanos();
    let slug: Arc<str> = payload().into();
    // tokio's timers are a millisecond coarse, so a thread of its own says when.
    let pacer = move || {
        let mut due = Instant::now();
        let mut made = JoinSet::new();
        for _ in 0..calls {
            due += gap;
            wait_until(due);
            let (mut client, slug) = (client.clone(), Arc::clone(&slug));
            made.spawn_on(
                async move {
                    let outcome = client.call_within(&slug, within).await;
                    outcome.map(|()| due.elapsed())
                },
                &runtime,
            );
        }
        made
    };
    let (done, paced) = tokio::sync::oneshot::channel();
    // Nobody waits for the calls if nobody waits for the pacer.
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || done.send(pacer()).ok())?;
    let mut made = paced.await.context("the pacer ends with its calls")?;
    let mut paced = Paced::new()?;
    while let Some(outcome) = made.join_next().await {
        match outcome? {
            Ok(took) => paced.nanos.saturating_record(u64::try_from(took.as_nanos())?),
            Err(_) => paced.failed += 1,
        }
    }
    Ok(paced)
}

#[expect(clippy::disallowed_methods, reason = "nothing is waited for but the time itself")]
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > SPIN {
        std::thread::sleep(left - SPIN);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_there_and_back() {
        assert_eq!(turns(0, 2), [0, 1, 1, 0]);
        assert_eq!(turns(1, 2), [1, 0, 0, 1]);
        assert_eq!(turns(1, 3), [1, 2, 0, 0, 2, 1]);
    }
}
