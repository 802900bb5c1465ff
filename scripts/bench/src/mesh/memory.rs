//! What an endpoint that nobody calls takes in memory, what one beside its connection, and what the library takes.
//!
//! Each is measured in children of its own: endpoints by what is on the heap, which does not depend on where the allocator finds
//! room; the library by the kernel's view of all its pages, code included.

use super::Bench;
use super::child;
use super::child::Child;
use super::child::Role;
use super::client;
use super::client::Meshed;
use super::client::payload;
use super::valgrind;
use crate::procfs;
use crate::report::Figure;
use bytes::Bytes;
use http::uri::PathAndQuery;
use mesh::registry::Lease;
use proto::links::v1::ResolveRequest;
use proto::links::v1::ResolveResponse;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;
use tonic_prost::ProstCodec;

/// How many endpoints in the smaller child and in the larger; the difference is the endpoints' own.
const IDLE: [usize; 2] = [500, 2_500];
const CONNECTED: [usize; 2] = [100, 500];
/// Instances of one gRPC service: as few as every caller calls.
const INSTANCES: usize = 10;
/// How often each endpoint is called, or a request sent on each bare connection: one after the other.
const CALLS_EACH: usize = 3;
const CALLS: usize = 2_000;
const CHILDREN: usize = 3;
const READY_WAIT_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Until what was needed only for the start is given back.
const SETTLE: Duration = Duration::from_millis(500);

/// What is held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    authority: PathBuf,
    address: String,
    held: Held,
    count: usize,
    /// Of a gRPC service.
    instances: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    /// A registry in memory, which in production is elsewhere.
    Registry,
    /// Endpoints that are registered and never called.
    Idle,
    /// Endpoints that were called and have a connection.
    Connected,
    /// Connections of the HTTP/2 library, and nothing else.
    Connections,
    /// A mesh that makes calls.
    Mesh,
    /// A channel that makes calls.
    Channel,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let to = &bench.callee.addresses;
    let role = |held, count, instances, address: &String| {
        let authority = bench.authority.path().to_owned();
        Role::Memory(Setup { authority, address: address.clone(), held, count, instances })
    };
    let each = async |held, [fewer, more]: [usize; 2], instances| {
        let bytes =
            async |count| valgrind::heap_bytes(&role(held, count, instances, &to.bare[0])).await;
        anyhow::Ok((bytes(more).await? - bytes(fewer).await?) / (more - fewer) as f64 / 1024.0)
    };
    let registered = each(Held::Registry, IDLE, INSTANCES).await?;
    let unused = each(Held::Idle, IDLE, INSTANCES).await? - registered;
    // One instance for each gRPC service, so that each is called; what the services take is in both.
    let used = each(Held::Connected, CONNECTED, 1).await? - each(Held::Idle, CONNECTED, 1).await?;
    let bare = each(Held::Connections, CONNECTED, 1).await?;
    bench.progress("memory: endpoints");

    let mut library = Vec::new();
    for _ in 0..CHILDREN {
        let bytes = async |held| {
            let role = role(held, 1, 1, &to.bare_mtls[0]);
            let (_child, bytes): (_, f64) = Child::start(&role).await?;
            anyhow::Ok(bytes)
        };
        let more = bytes(Held::Mesh).await? - bytes(Held::Channel).await?;
        library.push(more / f64::from(1 << 20));
    }
    bench.progress("memory: library");
    const ENDPOINT: Option<&str> = Some("value <= 4");
    Ok(vec![
        Figure::alone("memory of an endpoint never called", "KiB", vec![unused], ENDPOINT),
        Figure::alone(
            "memory of an idle one beside its connection",
            "KiB",
            vec![unused + used - bare],
            ENDPOINT,
        ),
        Figure::alone("memory of the library over Channel", "MiB", library, Some("value <= 5")),
    ])
}

/// In the child.
pub(super) async fn play(setup: Setup) -> anyhow::Result<()> {
    let Setup { authority, address, held, count, instances } = setup;
    match held {
        Held::Registry => {
            let registry = mesh::registry::open("memory:")?;
            let leases = register(&*registry, &address, count, instances);
            said(&(registry, leases)).await
        }
        Held::Idle => {
            let meshed = idle(&address, count, instances).await?;
            said(&meshed).await
        }
        Held::Connected => {
            let meshed = idle(&address, count, instances).await?;
            call_each(&meshed, count).await?;
            said(&meshed).await
        }
        Held::Connections => said(&connections(&address, count).await?).await,
        Held::Mesh => {
            let meshed = Meshed::to(client::caller(&authority)?, &[address])?;
            call(&meshed.client()).await?;
            said(&meshed).await
        }
        Held::Channel => {
            let channel = client::bare_mtls(&address, &authority)?.connect().await?;
            let client = client::Client::bare(channel);
            call(&client).await?;
            said(&client).await
        }
    }
}

async fn said<T>(_held: &T) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLE).await;
    child::ready(&(procfs::resident_kib(std::process::id())? * 1024.0)).await
}

fn grpc_service(number: usize, instances: usize) -> String {
    format!("bench.Service{}", number / instances)
}

fn register(
    registry: &dyn mesh::Registry,
    address: &str,
    count: usize,
    instances: usize,
) -> Vec<Box<dyn Lease>> {
    let register = |number: usize| {
        registry.register(mesh::Registration {
            grpc_services: vec![grpc_service(number, instances)],
            ..client::registration(&format!("links-{number}"), address)
        })
    };
    (0..count).map(register).collect()
}

async fn idle(address: &str, count: usize, instances: usize) -> anyhow::Result<Meshed> {
    let mut meshed = Meshed::to(client::nobody()?, &[])?;
    meshed.leases = register(&*meshed.registry, address, count, instances);
    let start = Instant::now();
    while meshed.mesh.view().endpoints.len() < count {
        anyhow::ensure!(start.elapsed() < READY_WAIT_MAX, "the mesh does not know its endpoints");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(meshed)
}

/// Calls each endpoint. Nobody implements the method, which is an answer too.
async fn call_each(meshed: &Meshed, count: usize) -> anyhow::Result<()> {
    let mut client = tonic::client::Grpc::new(meshed.mesh.clone());
    for number in 0..count {
        let path: PathAndQuery = format!("/{}/Call", grpc_service(number, 1)).parse()?;
        for _ in 0..CALLS_EACH {
            let codec = ProstCodec::<ResolveRequest, ResolveResponse>::default();
            let request = tonic::Request::new(ResolveRequest::default());
            let answer = client.unary(request, path.clone(), codec).await.map(drop);
            let code = answer.err().map(|status| status.code());
            anyhow::ensure!(code == Some(tonic::Code::Unimplemented), "{path}: {code:?}");
        }
    }
    let view = meshed.mesh.view();
    let called = view.endpoints.iter().filter(|endpoint| endpoint.latency.is_some()).count();
    anyhow::ensure!(called == count, "{called} of {count} endpoints were called");
    Ok(())
}

/// As the mesh opens them, with as many calls on each, and nothing beside.
async fn connections(
    address: &str,
    count: usize,
) -> anyhow::Result<(JoinSet<()>, Vec<h2::client::SendRequest<Bytes>>)> {
    let (mut drivers, mut senders) = (JoinSet::new(), Vec::new());
    for _ in 0..count {
        let tcp = tokio::net::TcpStream::connect(address).await?;
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake::<_, Bytes>(tcp)
            .await?;
        let mut send = send.ready().await?;
        for _ in 0..CALLS_EACH {
            let request = http::Request::post(format!("http://{address}/bench.Service/Call"));
            let (response, mut body) = send.send_request(request.body(())?, false)?;
            body.send_data(Bytes::from_static(&[0; 5]), true)?;
            tokio::select! {
                ended = &mut connection => ended?,
                response = response => drop(response?),
            }
        }
        senders.push(send);
        drivers.spawn(async move { connection.await.unwrap_or_default() });
    }
    Ok((drivers, senders))
}

async fn call(client: &client::Client) -> anyhow::Result<()> {
    let mut client = client.clone();
    let slug = payload();
    for _ in 0..CALLS {
        client.call(&slug).await?;
    }
    Ok(())
}
