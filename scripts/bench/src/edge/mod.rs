//! What the edge costs, beside Envoy with the filter that does the same, before the same service.
//!
//! Both stand before the same service, which answers at once and is reached with mutual TLS, and are driven by the same client,
//! in turns (ABBA, then BAAB). The edge does all that it does for a client: it proves the API key, limits, counts and traces.
//! Envoy does one thing, and is given the principal that the edge would find. A figure is the CPU of the process between
//! client and service, for each request.

mod connections;
mod driver;
mod envoy;
pub(crate) mod service;

use crate::cluster::Cluster;
use crate::mesh::drive::turns;
use crate::procfs::CpuMicros;
use crate::report::Figure;
use anyhow::Context as _;
use driver::Request;
use driver::Version;
use envoy::Envoy;
use proto::links::v1::GetLinkRequest;
use service::Service;

const PEER: &str = "Envoy";
/// How long the first requests go on that nobody counts: they fill caches and pools.
const WARM_UP_SECONDS: u32 = 1;
/// A side has two turns of this length in a pair.
const TURN_SECONDS: u32 = 1;

/// A request that both answer.
struct Row {
    name: &'static str,
    request: Request,
    /// Envoy's port that answers it.
    peer: u16,
    goal: &'static str,
}

/// Runs the bench with so many pairs of turns.
pub(crate) async fn run(cluster: &Cluster, pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let link = cluster.create_link("https://example.com/landing").await?;
    let folder = tempfile::tempdir()?;
    let service = Service::instead(cluster).await?;
    let envoy = Envoy::start(folder.path(), cluster, service.port).await?;
    let get = frame(&GetLinkRequest { name: link.name.clone() });
    let path = "/linkmesh.links.v1.LinksService/GetLink";
    let workspace = cluster.workspace();
    let rows = [
        Row {
            name: "REST GET",
            request: Request::get(format!("/v1/{}", link.name), Version::Http1),
            peer: envoy.transcoder,
            goal: "ratio <= 0.333",
        },
        Row {
            name: "REST POST",
            request: Request::post(format!("/v1/{workspace}/links"), Version::Http1)
                .body("application/json", br#"{"destinationUri":"https://example.com/a?b=c"}"#)?,
            peer: envoy.transcoder,
            goal: "ratio <= 0.333",
        },
        Row {
            name: "gRPC-Web",
            request: Request::post(path.to_owned(), Version::Http1)
                .body("application/grpc-web+proto", &get)?,
            peer: envoy.grpc_web,
            goal: "ratio <= 0.5",
        },
        Row {
            name: "gRPC passed through",
            request: Request::post(path.to_owned(), Version::Http2)
                .body("application/grpc", &get)?
                .header("te: trailers"),
            peer: envoy.plain,
            goal: "ratio <= 0.5",
        },
    ];
    let mut figures = Vec::new();
    for row in rows {
        let name = row.name;
        figures.extend(compare(cluster, &envoy, row, pairs).await.context(name)?);
    }
    figures.extend(connections::run(cluster, &link.name).await?);
    service.end(cluster).await?;
    Ok(figures)
}

async fn compare(
    cluster: &Cluster,
    envoy: &Envoy,
    row: Row,
    pairs: usize,
) -> anyhow::Result<Vec<Figure>> {
    let bearer = format!("authorization: Bearer {}", cluster.api_key());
    let ours = row.request.clone().header(&bearer).at(&cluster.edge_url);
    let peer = row.request.header(&envoy.principal).at(&format!("http://127.0.0.1:{}", row.peer));
    let sides = [(ours, cluster.pid("edge-1")?), (peer, envoy.pid()?)];
    for (request, _) in &sides {
        driver::drive(request, WARM_UP_SECONDS).await?;
    }
    let (mut cpu, mut rate) = (Vec::new(), Vec::new());
    for round in 0..pairs {
        let mut micros = [0.0; 2];
        let mut requests = [0.0; 2];
        for side in turns(round, sides.len()) {
            let (request, pid) = &sides[side];
            let before = CpuMicros::of(*pid)?;
            requests[side] += driver::drive(request, TURN_SECONDS).await?;
            micros[side] += CpuMicros::of(*pid)?.since(&before, |_| true);
        }
        cpu.push((micros[0] / requests[0], micros[1] / requests[1]));
        let seconds = f64::from(TURN_SECONDS) * 2.0;
        rate.push((requests[0] / seconds, requests[1] / seconds));
    }
    let Row { name, goal, .. } = row;
    Ok(vec![
        Figure::beside(name, "CPU µs/request", PEER, &cpu, Some(goal)),
        Figure::beside(format!("{name}: answers"), "requests/s", PEER, &rate, None),
    ])
}

/// A message as gRPC frames it.
fn frame(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is small").to_be_bytes();
    [&[0][..], &length, &message].concat()
}
