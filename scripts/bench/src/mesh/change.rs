//! From a change in etcd until the first request has been answered accordingly, in a mesh of 1,000 endpoints.
//!
//! The request waits already when the change is put, and the clock starts before the put is sent: etcd's write, the watch,
//! the new snapshot, the connection with its handshake and the call itself are in the figure.

use super::Bench;
use super::callee::CALLEE;
use super::callee::GRPC_SERVICE;
use super::client;
use super::client::Client;
use crate::report::Figure;
use anyhow::Context as _;
use etcd_client::PutOptions;
use hdrhistogram::Histogram;
use mesh::Mesh;
use mesh::registry;
use mesh::registry::WEIGHT_DEFAULT;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

/// Endpoints of another service, which no one calls here.
const OTHERS: usize = 1_000;
const OTHER_SERVICE: &str = "linkmesh.analytics.v1.AnalyticsService";
/// How many changes are followed.
const CHANGES: usize = 200;
/// Between sending the request that waits and the change.
const HEAD_START: Duration = Duration::from_millis(5);
const SEEN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let folder = stack::TemporaryFolder::new()?;
    let etcd = stack::Etcd::start(stack::Options::bound(folder.path())?).await?;
    let mut store =
        etcd_client::Client::connect([format!("http://127.0.0.1:{}", etcd.port())], None).await?;
    for number in 0..OTHERS {
        let instance = format!("analytics-{number}");
        put(&mut store, OTHER_SERVICE, &instance, "analytics", "127.0.0.1:1", false).await?;
    }
    let options = mesh::MeshOptions {
        registry: registry::open(&etcd.url())?,
        identity: client::caller(bench.authority.path())?,
        zone: String::new(),
        region: String::new(),
        snapshot: None,
    };
    let mut metrics = prometheus_client::registry::Registry::default();
    let mesh = Mesh::start(options, &mut metrics)?;
    wait_for(&mesh, OTHERS).await?;

    let mut micros = Histogram::<u64>::new(3)?;
    for number in 0..CHANGES {
        let addresses = &bench.callee.addresses.mesh_mtls;
        let address = &addresses[number % addresses.len()];
        let instance = format!("links-{number}");
        let mut waiting = Client::Mesh(ResolverServiceClient::new(mesh.clone()));
        let call = tokio::task::JoinSet::from_iter([async move { waiting.call("x7k2m9q").await }]);
        tokio::time::sleep(HEAD_START).await;
        let start = Instant::now();
        let (put_done, answered) = tokio::join!(
            put(&mut store, GRPC_SERVICE, &instance, CALLEE, address, false),
            call.join_all()
        );
        put_done?;
        let took = start.elapsed();
        for outcome in answered {
            outcome.with_context(|| format!("change {number} reached no request"))?;
        }
        micros.record(u64::try_from(took.as_micros())?)?;
        // It says that it leaves, and goes: the next request finds nobody again.
        put(&mut store, GRPC_SERVICE, &instance, CALLEE, address, true).await?;
        store.delete(key(GRPC_SERVICE, &instance), None).await?;
        wait_for(&mesh, OTHERS).await?;
    }
    bench.progress("change: endpoints");
    mesh.close().await;
    let millis = |at: f64| vec![micros.value_at_quantile(at) as f64 / 1_000.0];
    let of = |what: &str| format!("change in etcd to first request, 1,000 endpoints: {what}");
    Ok(vec![
        Figure::alone(of("p50"), "ms", millis(0.50), None),
        Figure::alone(of("p99"), "ms", millis(0.99), Some("value <= 50")),
    ])
}

async fn wait_for(mesh: &Mesh, endpoints: usize) -> anyhow::Result<()> {
    let start = Instant::now();
    while mesh.view().endpoints.len() != endpoints {
        anyhow::ensure!(start.elapsed() < SEEN_WITHIN, "the mesh does not see {endpoints}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn key(grpc_service: &str, instance: &str) -> String {
    format!("linkmesh/endpoints/{grpc_service}/{instance}")
}

/// Writes an endpoint as an instance would, in etcd's naming format.
async fn put(
    store: &mut etcd_client::Client,
    grpc_service: &str,
    instance: &str,
    service: &str,
    address: &str,
    draining: bool,
) -> anyhow::Result<()> {
    let value = json!({"Op": 0, "Addr": address, "Metadata": {
        "service": service,
        "weight": WEIGHT_DEFAULT,
        "draining": draining,
        "register_time": jiff::Timestamp::now().to_string(),
    }});
    store.put(key(grpc_service, instance), value.to_string(), None::<PutOptions>).await?;
    Ok(())
}
