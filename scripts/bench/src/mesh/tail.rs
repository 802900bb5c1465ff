//! Ten servers of which one is ten times slower, fails at once, or stalls now and then: the mesh beside other balancers.
//!
//! After envoy's pull request 40653. Each balancer has ten servers of its own that behave alike, and all are driven at the same
//! rate at the same moments, so that each second is a pair. The servers' time is a timer's: they don't compete for CPU.

use super::Bench;
use super::callee::answer;
use super::callee::serve_bare;
use super::child;
use super::child::Child;
use super::child::Role;
use super::client;
use super::client::Client;
use super::client::Meshed;
use super::client::Other;
use super::drive;
use super::drive::Paced;
use crate::report::Figure;
use anyhow::Context as _;
use proto::links::v1::ResolveRequest;
use proto::links::v1::ResolveResponse;
use proto::links::v1::resolver_service_server::ResolverService;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Channel;
use tower::ServiceExt as _;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::CompleteOnResponse;
use tower::load::PeakEwmaDiscover;
use tower::load::PendingRequestsDiscover;
use tower::util::BoxCloneSyncService;

const SERVERS: usize = 10;
/// How many calls a server works at, and for how long at one; further ones wait.
const AT_A_TIME: usize = 2;
const SERVICE_TIME: Duration = Duration::from_millis(10);
/// The slow server's.
const SLOW_SERVICE_TIME: Duration = Duration::from_millis(100);
/// The bursty one's, for a quarter of the time.
const STALLED_SERVICE_TIME: Duration = Duration::from_millis(200);
const STALL_EVERY: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_millis(500);

/// What each balancer is offered.
const PER_SECOND: u32 = 500;
/// One pair: as long as the bursty server takes from one stall to the next.
const TURN: Duration = STALL_EVERY;
/// After which a call is given up. One that failed counts as if it had taken as long: its caller had no answer by then.
const DEADLINE: Duration = Duration::from_secs(1);
/// Until all have learned.
const WARM_UP: Duration = Duration::from_secs(2);

const PEERS: [&str; 3] = ["tonic's balance_list", "P2C on in-flight", "tower's PeakEwma"];
/// tower queues what its balancers have not placed yet.
const BUFFER: usize = 1_024;
/// As in the mesh, and in Finagle and Linkerd before it.
const RTT_DEFAULT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scenario {
    Slow,
    Failing,
    Bursty,
}

/// What the child serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    scenario: Scenario,
    sets: usize,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (scenario, name) in [
        (Scenario::Slow, "one ten times slower"),
        (Scenario::Failing, "one fails at once"),
        (Scenario::Bursty, "one stalls now and then"),
    ] {
        figures.extend(compare(bench, scenario, name).await?);
        bench.progress(&format!("tail: {name}"));
    }
    Ok(figures)
}

async fn compare(bench: &Bench, scenario: Scenario, name: &str) -> anyhow::Result<Vec<Figure>> {
    let role = Role::Backends(Setup { scenario, sets: PEERS.len() + 1 });
    let (_child, sets): (_, Vec<Vec<String>>) = Child::start(&role).await?;
    let [ours, list, pending, ewma] = sets.as_slice() else { anyhow::bail!("four sets, please") };
    let meshed = Meshed::to(client::nobody()?, ours)?;
    let clients = [
        meshed.client(),
        balance_list(list)?,
        Client::other(in_flight(pending).await?),
        Client::other(peak_ewma(ewma).await?),
    ];
    drive_all(&clients, WARM_UP).await?;
    let mut rounds = Vec::new();
    for _ in 0..bench.pairs {
        rounds.push(drive_all(&clients, TURN).await?);
    }
    meshed.mesh.close().await;

    let mut figures = Vec::new();
    for (number, peer) in PEERS.into_iter().enumerate() {
        let pairs = |of: &dyn Fn(&Paced) -> f64| -> Vec<(f64, f64)> {
            rounds.iter().map(|round| (of(&round[0]), of(&round[number + 1]))).collect()
        };
        let p99 = pairs(&|paced| paced.micros_at_of_all(0.99, DEADLINE) / 1_000.0);
        let success = pairs(&|paced| paced.success() * 100.0);
        let metric = |what: &str| format!("ten servers, {name}: {what}");
        figures.push(Figure::beside(
            metric("p99 of all calls"),
            "ms",
            peer,
            &p99,
            Some("ratio <= 1.0"),
        ));
        figures.push(Figure::beside(metric("success"), "%", peer, &success, Some("ratio >= 1.0")));
    }
    Ok(figures)
}

/// All at the same time, so that they meet the same moments.
async fn drive_all(clients: &[Client], duration: Duration) -> anyhow::Result<Vec<Paced>> {
    let driven =
        clients.iter().map(|client| drive::pace(client, PER_SECOND, duration, Some(DEADLINE)));
    futures_util::future::try_join_all(driven).await
}

fn balance_list(addresses: &[String]) -> anyhow::Result<Client> {
    let endpoints: Vec<_> =
        addresses.iter().map(|address| client::bare(address)).collect::<anyhow::Result<_>>()?;
    Ok(Client::bare(Channel::balance_list(endpoints.into_iter())))
}

async fn channels(addresses: &[String]) -> anyhow::Result<ServiceList<Vec<Channel>>> {
    let mut channels = Vec::new();
    for address in addresses {
        channels.push(client::bare(address)?.connect().await?);
    }
    Ok(ServiceList::new(channels))
}

async fn in_flight(addresses: &[String]) -> anyhow::Result<Other> {
    let discover = channels(addresses).await?;
    let loads = PendingRequestsDiscover::new(discover, CompleteOnResponse::default());
    let buffer = Buffer::new(Balance::new(loads), BUFFER);
    Ok(BoxCloneSyncService::new(buffer.map_err(Status::from_error)))
}

async fn peak_ewma(addresses: &[String]) -> anyhow::Result<Other> {
    let discover = channels(addresses).await?;
    let completion = CompleteOnResponse::default();
    let loads = PeakEwmaDiscover::new(discover, RTT_DEFAULT, DECAY, completion);
    let buffer = Buffer::new(Balance::new(loads), BUFFER);
    Ok(BoxCloneSyncService::new(buffer.map_err(Status::from_error)))
}

/// In the child.
pub(super) async fn play(setup: Setup) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let started = Instant::now();
    let mut sets: Vec<Vec<String>> = Vec::new();
    for _ in 0..setup.sets {
        let mut addresses = Vec::new();
        for number in 0..SERVERS {
            let scenario = (number == 0).then_some(setup.scenario);
            let room = Arc::new(Semaphore::new(AT_A_TIME));
            let server = tonic::transport::Server::builder();
            let backend = Backend { scenario, room, started };
            addresses.push(serve_bare(server, backend, &mut servers, &stop).await?);
        }
        sets.push(addresses);
    }
    child::ready(&sets).await?;
    stop.cancel();
    while servers.join_next().await.is_some() {}
    Ok(())
}

/// One of the ten.
#[derive(Debug)]
struct Backend {
    /// How it differs, if it does.
    scenario: Option<Scenario>,
    room: Arc<Semaphore>,
    started: Instant,
}

impl Backend {
    fn service_time(&self) -> Duration {
        let into = self.started.elapsed().as_nanos() % STALL_EVERY.as_nanos();
        match self.scenario {
            Some(Scenario::Slow) => SLOW_SERVICE_TIME,
            Some(Scenario::Bursty) if into < STALL.as_nanos() => STALLED_SERVICE_TIME,
            Some(Scenario::Bursty | Scenario::Failing) | None => SERVICE_TIME,
        }
    }
}

#[tonic::async_trait]
impl ResolverService for Backend {
    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        if self.scenario == Some(Scenario::Failing) {
            return Err(Status::unavailable("it always fails"));
        }
        let _room = self.room.acquire().await.context("it is never closed").map_err(refused)?;
        tokio::time::sleep(self.service_time()).await;
        Ok(Response::new(answer(request.into_inner())))
    }
}

fn refused(error: anyhow::Error) -> Status {
    Status::internal(error.to_string())
}
