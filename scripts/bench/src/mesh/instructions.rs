//! Instructions, which no neighbour on the machine changes: of a call in the caller's process, and of the choice of an endpoint
//! with its bookkeeping.
//!
//! A child runs under callgrind twice, the second time for longer; the difference is the work's own, without start and end.

use super::Bench;
use super::child::Role;
use super::client;
use super::client::Client;
use super::client::Meshed;
use super::client::payload;
use super::valgrind;
use crate::report::Figure;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use tokio::task::JoinSet;

/// How many calls in the shorter run and in the longer.
const CALLS: [u32; 2] = [1_000, 3_000];
const IN_FLIGHT: u32 = 64;
/// The same of picks, and among how many endpoints: the first is what the others are measured by.
const PICKS: [u32; 2] = [10_000, 60_000];
const ENDPOINTS: [usize; 4] = [3, 10, 100, 1_000];
/// How much more a pick among many may take than one among few: what is random about it, and the cache's lines.
const FLAT: Option<&str> = Some("ratio <= 1.1");

/// What is counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Setup {
    Calls(Calls),
    Picks { endpoints: usize, picks: u32 },
}

/// Calls to a callee.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Calls {
    authority: PathBuf,
    address: String,
    caller: Caller,
    mtls: bool,
    calls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Caller {
    Mesh,
    Channel,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = picks(bench).await?;
    figures.extend(calls(bench).await?);
    Ok(figures)
}

async fn picks(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut counts = Vec::new();
    for endpoints in ENDPOINTS {
        let setup = |picks| Role::Instructions(Setup::Picks { endpoints, picks });
        let [fewer, more] = PICKS;
        let counted = valgrind::instructions(&setup(more)).await?
            - valgrind::instructions(&setup(fewer)).await?;
        counts.push((endpoints, counted / f64::from(more - fewer)));
    }
    bench.progress("instructions: picks");
    let [(_, few), many @ ..] = counts.as_slice() else { return Ok(Vec::new()) };
    let of = |endpoints: usize| format!("pick and bookkeeping, {endpoints} endpoints");
    let alone = Figure::alone(of(ENDPOINTS[0]), "instr.", vec![*few], None);
    let beside = many.iter().map(|(endpoints, count)| {
        Figure::beside(of(*endpoints), "instr.", "3 endpoints", &[(*count, *few)], FLAT)
    });
    Ok(std::iter::once(alone).chain(beside).collect())
}

async fn calls(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let to = &bench.callee.addresses;
    let mut figures = Vec::new();
    for (name, mtls, address) in [("plain", false, &to.bare[0]), ("mTLS", true, &to.bare_mtls[0])] {
        let of = async |caller| {
            let setup = |calls| Calls {
                authority: bench.authority.path().to_owned(),
                address: address.clone(),
                caller,
                mtls,
                calls,
            };
            let role = |calls| Role::Instructions(Setup::Calls(setup(calls)));
            let [fewer, more] = CALLS;
            let counted = valgrind::instructions(&role(more)).await?
                - valgrind::instructions(&role(fewer)).await?;
            anyhow::Ok(counted / f64::from(more - fewer))
        };
        let pair = (of(Caller::Mesh).await?, of(Caller::Channel).await?);
        figures.push(Figure::beside(
            format!("1 kB calls, {name}, same tonic server: client"),
            "instr./call",
            "Channel",
            &[pair],
            Some("ratio <= 1.0"),
        ));
        bench.progress(&format!("instructions: {name}"));
    }
    Ok(figures)
}

/// In the child.
pub(super) async fn play(setup: Setup) -> anyhow::Result<()> {
    match setup {
        Setup::Calls(calls) => make(calls).await,
        Setup::Picks { endpoints, picks } => {
            // Outside of a task's budget, which a thousand connections that lead nowhere would use up.
            let picked = tokio::task::unconstrained(async {
                let pick = mesh::bench::Pick::new(endpoints);
                (0..picks).for_each(|_| pick.call());
            });
            picked.await;
            Ok(())
        }
    }
}

async fn make(setup: Calls) -> anyhow::Result<()> {
    let Calls { authority, address, caller, mtls, calls } = setup;
    let identity = if mtls { client::caller(&authority)? } else { client::nobody()? };
    let meshed = Meshed::to(identity, std::slice::from_ref(&address))?;
    let client = match caller {
        Caller::Mesh => meshed.client(),
        Caller::Channel if mtls => {
            Client::bare(client::bare_mtls(&address, &authority)?.connect_lazy())
        }
        Caller::Channel => Client::bare(client::bare(&address)?.connect_lazy()),
    };
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let mut client = client.clone();
        callers.spawn(async move {
            let slug = payload();
            for _ in 0..calls / IN_FLIGHT {
                client.call(&slug).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}
