//! Saturated unary calls of 1 kB, 64 in flight: the mesh beside tonic's bare `Channel`, plain and with mutual TLS.
//!
//! Once with the whole mesh, its server included, beside tonic's client and server; and once with both clients on the same
//! tonic server, which tells the client's part.

use super::Bench;
use super::client;
use super::client::Client;
use super::client::Meshed;
use super::drive;
use super::drive::Slice;
use crate::report::Figure;
use std::time::Duration;
use tonic::transport::Channel;

/// Calls in flight at any time.
const IN_FLIGHT: usize = 64;
/// A side has two turns of this length in a pair.
const TURN: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_millis(500);
const PEER: &str = "Channel";
const PLAIN: &str = "ratio >= 1.05";
const MTLS: &str = "ratio >= 1.0";
const CPU: Option<&str> = Some("ratio <= 1.0");

/// Two callers that are compared.
struct Match {
    name: &'static str,
    ours: Client,
    peer: Client,
    goal: &'static str,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let to = &bench.callee.addresses;
    let authority = bench.authority.path();
    let caller = client::caller(authority)?;

    let plain = Meshed::to(client::nobody()?, &to.mesh[..1])?;
    let plain_to_tonic = Meshed::to(client::nobody()?, &to.bare[..1])?;
    let plain_to_many = Meshed::to(client::nobody()?, &to.mesh)?;
    let mtls = Meshed::to(caller.clone(), &to.mesh_mtls[..1])?;
    let mtls_to_tonic = Meshed::to(caller.clone(), &to.bare_mtls[..1])?;
    let mtls_to_many = Meshed::to(caller, &to.mesh_mtls)?;

    let bare = Client::bare(client::bare(&to.bare[0])?.connect().await?);
    let bare_mtls = Client::bare(client::bare_mtls(&to.bare_mtls[0], authority)?.connect().await?);
    let mut endpoints = Vec::new();
    for address in &to.bare {
        endpoints.push(client::bare(address)?);
    }
    let bare_many = Client::bare(Channel::balance_list(endpoints.into_iter()));
    let mut endpoints = Vec::new();
    for address in &to.bare_mtls {
        endpoints.push(client::bare_mtls(address, authority)?);
    }
    let bare_mtls_many = Client::bare(Channel::balance_list(endpoints.into_iter()));

    let matches = [
        ("plain", &plain, &bare, PLAIN),
        ("plain, same tonic server", &plain_to_tonic, &bare, PLAIN),
        ("mTLS", &mtls, &bare_mtls, MTLS),
        ("mTLS, same tonic server", &mtls_to_tonic, &bare_mtls, MTLS),
        ("plain, 4 connections", &plain_to_many, &bare_many, PLAIN),
        ("mTLS, 4 connections", &mtls_to_many, &bare_mtls_many, MTLS),
    ];
    let mut figures = Vec::new();
    for (name, ours, peer, goal) in matches {
        let pair = Match { name, ours: ours.client(), peer: peer.clone(), goal };
        figures.extend(compare(bench, pair).await?);
    }
    for meshed in [plain, plain_to_tonic, plain_to_many, mtls, mtls_to_tonic, mtls_to_many] {
        meshed.mesh.close().await;
    }
    Ok(figures)
}

async fn compare(bench: &Bench, pair: Match) -> anyhow::Result<Vec<Figure>> {
    let Match { name, ours, peer, goal } = pair;
    let callee = [bench.callee.child.pid()?];
    let sides = [ours, peer];
    for side in &sides {
        drive::saturate(side, IN_FLIGHT, WARM_UP, &callee).await?;
    }
    let (mut rate, mut client, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.pairs {
        let mut slices = [Slice::default(); 2];
        for side in drive::turns(round, sides.len()) {
            let slice = drive::saturate(&sides[side], IN_FLIGHT, TURN, &callee).await?;
            slices[side].add(&slice);
        }
        let [ours, peer] = slices;
        rate.push((ours.per_second(), peer.per_second()));
        client.push((ours.client_micros(), peer.client_micros()));
        all.push((ours.all_micros(), peer.all_micros()));
    }
    bench.progress(&format!("calls: {name}"));
    let of = |what: &str| format!("1 kB calls, {name}: {what}");
    Ok(vec![
        Figure::beside(of("throughput"), "calls/s", PEER, &rate, Some(goal)),
        Figure::beside(of("client CPU"), "µs/call", PEER, &client, CPU),
        Figure::beside(of("CPU of both ends"), "µs/call", PEER, &all, None),
    ])
}
