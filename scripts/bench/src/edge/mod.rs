//! What the edge costs, beside Envoy with the filter that does the same and beside grpc-gateway, before the same service.
//!
//! All stand before the same service, which answers at once and is reached with mutual TLS, and are driven by the same client,
//! in turns (ABC, CBA, then BCA …). The edge does all that it does for a client: it proves the API key, limits, counts and
//! traces. Its peers do one thing, and are given the principal that the edge would find. A figure is the CPU of the process
//! between client and service, for each request. What REST answers is compared before anything is measured.

mod connections;
mod driver;
mod envoy;
mod grpc_gateway;
pub(crate) mod service;

use crate::cluster::Cluster;
use crate::mesh::certificates;
use crate::mesh::drive::turns;
use crate::procfs::CpuMicros;
use crate::report::Figure;
use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use driver::Request;
use driver::Version;
use envoy::Envoy;
use grpc_gateway::GrpcGateway;
use proto::links::v1::GetLinkRequest;
use rpc::ApiKeyId;
use rpc::Permissions;
use rpc::Principal;
use rpc::WorkspaceId;
use serde_json::Value;
use service::Service;

/// Whom the service takes its callers for.
const CALLER: &str = "edge";
/// How long the first requests go on that nobody counts: they fill caches and pools.
const WARM_UP_SECONDS: u32 = 1;
/// A side has two turns of this length in a round.
const TURN_SECONDS: u32 = 1;

/// Who answers.
#[derive(Debug, Clone)]
struct Side {
    name: &'static str,
    /// `http://host:port`.
    url: String,
    /// Says for whom a call is.
    header: String,
    pid: u32,
}

impl Side {
    fn edge(cluster: &Cluster) -> anyhow::Result<Self> {
        let header = format!("authorization: Bearer {}", cluster.api_key());
        Ok(Self {
            name: "edge",
            url: cluster.edge_url.clone(),
            header,
            pid: cluster.pid("edge-1")?,
        })
    }

    fn peer(name: &'static str, port: u16, principal: &str, pid: u32) -> Self {
        Self { name, url: format!("http://127.0.0.1:{port}"), header: principal.to_owned(), pid }
    }
}

/// A request that all answer.
struct Row {
    name: &'static str,
    request: Request,
    peers: Vec<Side>,
    goal: &'static str,
}

/// Runs the bench with so many rounds of turns.
pub(crate) async fn run(cluster: &Cluster, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let link = cluster.create_link("https://example.com/landing").await?;
    let folder = tempfile::tempdir()?;
    let service = Service::instead(cluster).await?;
    let pem = certificates::issue(&cluster.authority()?, CALLER)?;
    let principal = principal(cluster)?;
    let envoy = Envoy::start(folder.path(), &pem, service.port, &principal).await?;
    let gateway = GrpcGateway::start(folder.path(), &pem, service.port, &principal).await?;
    let edge = Side::edge(cluster)?;
    let get = frame(&GetLinkRequest { name: link.name.clone() });
    let path = "/linkmesh.links.v1.LinksService/GetLink";
    let workspace = cluster.workspace();
    let transcoders = vec![envoy.transcoder.clone(), gateway.side.clone()];
    let rest = [
        Row {
            name: "REST GET",
            request: Request::get(format!("/v1/{}", link.name), Version::Http1),
            peers: transcoders.clone(),
            goal: "ratio <= 0.333",
        },
        Row {
            name: "REST POST",
            request: Request::post(format!("/v1/{workspace}/links"), Version::Http1)
                .body("application/json", br#"{"destinationUri":"https://example.com/a?b=c"}"#)?,
            peers: transcoders,
            goal: "ratio <= 0.333",
        },
    ];
    for row in &rest {
        answers_alike(&edge, row).await.context(row.name)?;
    }
    let framed = [
        Row {
            name: "gRPC-Web",
            request: Request::post(path.to_owned(), Version::Http1)
                .body("application/grpc-web+proto", &get)?,
            peers: vec![envoy.grpc_web.clone()],
            goal: "ratio <= 0.5",
        },
        Row {
            name: "gRPC passed through",
            request: Request::post(path.to_owned(), Version::Http2)
                .body("application/grpc", &get)?
                .header("te: trailers"),
            peers: vec![envoy.plain.clone()],
            goal: "ratio <= 0.5",
        },
    ];
    let mut figures = Vec::new();
    for row in rest.into_iter().chain(framed) {
        let name = row.name;
        figures.extend(compare(&edge, row, rounds).await.context(name)?);
    }
    figures.extend(connections::run(cluster, &link.name).await?);
    service.end(cluster).await?;
    Ok(figures)
}

/// The header that says what the edge would find: a key that may do everything in the workspace.
fn principal(cluster: &Cluster) -> anyhow::Result<String> {
    let workspace = WorkspaceId::from_slice(cluster.workspace_id()?.as_bytes())?;
    let principal = Principal::api_key(ApiKeyId::new(), workspace, Permissions::ALL);
    let value = BASE64_STANDARD_NO_PAD.encode(principal.encode());
    Ok(format!("{}: {value}", Principal::METADATA_KEY))
}

/// Fails unless all sides of a row of REST answer the same link.
async fn answers_alike(edge: &Side, row: &Row) -> anyhow::Result<()> {
    let ours = answer(edge, row).await?;
    anyhow::ensure!(ours["name"].is_string(), "the edge answers no link: {ours}");
    for peer in &row.peers {
        let mut theirs = answer(peer, row).await?;
        // Envoy knows no `response_body`.
        if let Some(link) = theirs.get_mut("link") {
            theirs = link.take();
        }
        anyhow::ensure!(ours == theirs, "the edge answers {ours}, and {} {theirs}", peer.name);
    }
    Ok(())
}

async fn answer(side: &Side, row: &Row) -> anyhow::Result<Value> {
    let request = row.request.clone().header(&side.header).at(&side.url);
    let body = driver::ask(&request).await.with_context(|| format!("asking {}", side.name))?;
    Ok(serde_json::from_slice(&body)?)
}

async fn compare(edge: &Side, row: Row, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let Row { name, request, peers, goal } = row;
    let sides: Vec<(Request, u32)> = std::iter::once(edge)
        .chain(&peers)
        .map(|side| (request.clone().header(&side.header).at(&side.url), side.pid))
        .collect();
    for (request, _) in &sides {
        driver::drive(request, WARM_UP_SECONDS).await?;
    }
    let mut cpu = vec![Vec::new(); peers.len()];
    let mut rate = cpu.clone();
    for round in 0..rounds {
        let mut micros = vec![0.0; sides.len()];
        let mut requests = micros.clone();
        for side in turns(round, sides.len()) {
            let (request, pid) = &sides[side];
            let before = CpuMicros::of(*pid)?;
            requests[side] += driver::drive(request, TURN_SECONDS).await?;
            micros[side] += CpuMicros::of(*pid)?.since(&before, |_| true);
        }
        let seconds = f64::from(TURN_SECONDS) * 2.0;
        for peer in 0..peers.len() {
            let side = peer + 1;
            cpu[peer].push((micros[0] / requests[0], micros[side] / requests[side]));
            rate[peer].push((requests[0] / seconds, requests[side] / seconds));
        }
    }
    let mut figures = Vec::new();
    for (peer, (cpu, rate)) in peers.iter().zip(cpu.iter().zip(&rate)) {
        let answers = format!("{name}: answers");
        figures.push(Figure::beside(name, "CPU µs/request", peer.name, cpu, Some(goal)));
        figures.push(Figure::beside(answers, "requests/s", peer.name, rate, None));
    }
    Ok(figures)
}

/// A message as gRPC frames it.
fn frame(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is small").to_be_bytes();
    [&[0][..], &length, &message].concat()
}
