//! Calls at a fixed rate with mutual TLS, measured from when each was due: what the mesh adds to bare tonic with TLS.

use super::Bench;
use super::client;
use super::client::Client;
use super::client::Meshed;
use super::drive;
use super::drive::Paced;
use crate::report::Figure;
use std::time::Duration;

const PER_SECOND: u32 = 1_000;
/// A side has two turns of this length in a pair.
const TURN: Duration = Duration::from_millis(1_000);
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let to = &bench.callee.addresses;
    let authority = bench.authority.path();
    let meshed = Meshed::to(client::caller(authority)?, &to.mesh_mtls[..1])?;
    let bare = client::bare_mtls(&to.bare_mtls[0], authority)?.connect().await?;
    let sides = [meshed.client(), Client::bare(bare)];
    let (mut added, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for side in &sides {
        drive::pace(side, PER_SECOND, WARM_UP, None).await?;
    }
    for round in 0..bench.pairs {
        let mut paced = [Paced::new()?, Paced::new()?];
        for side in drive::turns(round, sides.len()) {
            let turn = drive::pace(&sides[side], PER_SECOND, TURN, None).await?;
            anyhow::ensure!(turn.failed == 0, "{} calls failed", turn.failed);
            paced[side].add(&turn)?;
        }
        let at = |quantile: f64| (paced[0].micros_at(quantile), paced[1].micros_at(quantile));
        let (ours, peer) = at(0.50);
        added.push(ours - peer);
        p50.push((ours, peer));
        p99.push(at(0.99));
    }
    bench.progress("latency");
    meshed.mesh.close().await;
    const PEER: &str = "Channel";
    Ok(vec![
        Figure::alone("1,000 calls/s, mTLS: p50 over Channel", "µs", added, Some("value <= 20")),
        Figure::beside("1,000 calls/s, mTLS: p50", "µs", PEER, &p50, None),
        Figure::beside("1,000 calls/s, mTLS: p99", "µs", PEER, &p99, Some("ratio <= 1.1")),
    ])
}
