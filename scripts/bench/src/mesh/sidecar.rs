//! The mesh in the process beside a pair of Envoy sidecars that carry the same calls, with mutual TLS on the wire.

use super::Bench;
use super::client;
use super::client::Client;
use super::client::Meshed;
use super::drive;
use super::drive::Paced;
use super::drive::Slice;
use super::envoy::Sidecars;
use crate::report::Figure;
use std::time::Duration;

const IN_FLIGHT: usize = 64;
const PER_SECOND: u32 = 1_000;
/// A side has two turns of this length in a pair: saturated, and at a rate.
const TURN: Duration = Duration::from_millis(250);
const PACED_TURN: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(500);
const PEER: &str = "Envoy";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let to = &bench.callee.addresses;
    let authority = bench.authority.path();
    let folder = tempfile::tempdir()?;
    let sidecars = Sidecars::start(folder.path(), authority, &to.bare[0]).await?;
    let meshed = Meshed::to(client::caller(authority)?, &to.mesh_mtls[..1])?;
    let through = Client::bare(client::bare(&sidecars.address)?.connect().await?);
    let direct = Client::bare(client::bare(&to.bare[0])?.connect().await?);
    let mut others = sidecars.pids.clone();
    others.push(bench.callee.child.pid()?);

    let sides = [meshed.client(), through, direct];
    for side in &sides {
        drive::saturate(side, IN_FLIGHT, WARM_UP, &others).await?;
    }
    let mut figures = saturated(bench, &sides, &others).await?;
    bench.progress("envoy: saturated");
    figures.extend(added(bench, &sides).await?);
    bench.progress("envoy: latency");
    meshed.mesh.close().await;
    Ok(figures)
}

async fn saturated(
    bench: &Bench,
    sides: &[Client; 3],
    others: &[u32],
) -> anyhow::Result<Vec<Figure>> {
    let (mut rate, mut cpu) = (Vec::new(), Vec::new());
    for round in 0..bench.pairs {
        let mut slices = [Slice::default(); 2];
        for side in drive::turns(round, slices.len()) {
            let slice = drive::saturate(&sides[side], IN_FLIGHT, TURN, others).await?;
            slices[side].add(&slice);
        }
        let [ours, envoy] = slices;
        rate.push((ours.per_second(), envoy.per_second()));
        cpu.push((ours.all_micros(), envoy.all_micros()));
    }
    Ok(vec![
        Figure::beside(
            "beside sidecars, mTLS: throughput",
            "calls/s",
            PEER,
            &rate,
            Some("ratio >= 3"),
        ),
        Figure::beside(
            "beside sidecars, mTLS: CPU of everything",
            "µs/call",
            PEER,
            &cpu,
            Some("ratio <= 0.333"),
        ),
    ])
}

/// What each adds to tonic's direct call without TLS, at a rate.
async fn added(bench: &Bench, sides: &[Client; 3]) -> anyhow::Result<Vec<Figure>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..bench.pairs {
        let mut paced = [Paced::new()?, Paced::new()?, Paced::new()?];
        for side in drive::turns(round, sides.len()) {
            let turn = drive::pace(&sides[side], PER_SECOND, PACED_TURN, None).await?;
            anyhow::ensure!(turn.failed == 0, "{} calls failed", turn.failed);
            paced[side].add(&turn)?;
        }
        let over_direct = |side: usize, quantile: f64| {
            paced[side].micros_at(quantile) - paced[2].micros_at(quantile)
        };
        p50.push((over_direct(0, 0.50), over_direct(1, 0.50)));
        p99.push((over_direct(0, 0.99), over_direct(1, 0.99)));
    }
    Ok(vec![
        Figure::beside(
            "beside sidecars: p50 added to a direct call",
            "µs",
            PEER,
            &p50,
            Some("ratio <= 0.2"),
        ),
        Figure::beside("beside sidecars: p99 added to a direct call", "µs", PEER, &p99, None),
    ])
}
