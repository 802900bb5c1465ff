//! From a change in etcd until the first request has been answered accordingly, in a mesh of 1,000 endpoints.
//!
//! The clock starts before the change is sent: etcd's write, the watch, the new snapshot, the connection with its handshake and
//! the call itself are in the figure. The request that a new endpoint serves waits already when it is registered; a policy is
//! seen by calls that are made one after the other.

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
use mesh::Registry;
use mesh::policy::Authorship;
use mesh::policy::Policies;
use mesh::policy::read_yaml;
use mesh::registry;
use mesh::registry::WEIGHT_DEFAULT;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Endpoints of another service, which no one calls here.
const OTHERS: usize = 1_000;
const OTHER_SERVICE: &str = "linkmesh.analytics.v1.AnalyticsService";
/// How many changes are followed.
const CHANGES: usize = 200;
/// Policies that follow each other.
const FAILING: &str = "service: links
routes:
- name: all
  fault:
    abort: {code: ABORTED, percent: 100}
";
const SUCCEEDING: &str = "service: links
routes:
- name: all
";
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
    let registry = registry::open(&etcd.url())?;
    let options = mesh::MeshOptions {
        registry: Arc::clone(&registry),
        identity: client::caller(bench.authority.path())?,
        zone: String::new(),
        region: String::new(),
        snapshot: None,
    };
    let mut metrics = prometheus_client::registry::Registry::default();
    let mesh = Mesh::start(options, &mut metrics)?;
    wait_for(&mesh, OTHERS).await?;

    let endpoints = endpoints(bench, &mesh, &mut store).await?;
    bench.progress("change: endpoints");
    let policies = policies(bench, &mesh, &mut store, &*registry).await?;
    bench.progress("change: policies");
    mesh.close().await;
    let mut figures = Vec::new();
    for (what, micros) in [("endpoint", endpoints), ("policy", policies)] {
        let millis = |at: f64| vec![micros.value_at_quantile(at) as f64 / 1_000.0];
        let of = |which: &str| format!("{what} in etcd to first request, 1,000 endpoints: {which}");
        figures.push(Figure::alone(of("p50"), "ms", millis(0.50), None));
        figures.push(Figure::alone(of("p99"), "ms", millis(0.99), Some("value <= 50")));
    }
    Ok(figures)
}

/// An instance registers where none was.
async fn endpoints(
    bench: &Bench,
    mesh: &Mesh,
    store: &mut etcd_client::Client,
) -> anyhow::Result<Histogram<u64>> {
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
            put(store, GRPC_SERVICE, &instance, CALLEE, address, false),
            call.join_all()
        );
        put_done?;
        let took = start.elapsed();
        for outcome in answered {
            outcome.with_context(|| format!("change {number} reached no request"))?;
        }
        micros.record(u64::try_from(took.as_micros())?)?;
        // It says that it leaves, and goes: the next request finds nobody again.
        put(store, GRPC_SERVICE, &instance, CALLEE, address, true).await?;
        store.delete(key(GRPC_SERVICE, &instance), None).await?;
        wait_for(mesh, OTHERS).await?;
    }
    Ok(micros)
}

/// Calls begin to fail by a policy, and to succeed by the next.
async fn policies(
    bench: &Bench,
    mesh: &Mesh,
    store: &mut etcd_client::Client,
    registry: &dyn Registry,
) -> anyhow::Result<Histogram<u64>> {
    let address = &bench.callee.addresses.mesh_mtls[0];
    put(store, GRPC_SERVICE, "links-1", CALLEE, address, false).await?;
    let mut client = Client::Mesh(ResolverServiceClient::new(mesh.clone()));
    client.call("x7k2m9q").await?;
    let policies = Policies::of(registry);
    let mut micros = Histogram::<u64>::new(3)?;
    for number in 0..CHANGES {
        let fails = number % 2 == 0;
        let policy = if fails { FAILING } else { SUCCEEDING };
        let authorship = Authorship {
            author: "bench".to_owned(),
            note: String::new(),
            now: jiff::Timestamp::now(),
        };
        let start = Instant::now();
        let seen = async {
            while client.call("x7k2m9q").await.is_err() != fails {
                anyhow::ensure!(start.elapsed() < SEEN_WITHIN, "policy {number} is not seen");
                // A call that a policy fails is not sent, and waits for nothing.
                tokio::task::yield_now().await;
            }
            Ok(start.elapsed())
        };
        let applied = policies.apply(read_yaml(policy)?, None, &authorship);
        let (applied, seen) = tokio::join!(applied, seen);
        applied.map_err(tonic::Status::from)?;
        micros.record(u64::try_from(seen?.as_micros())?)?;
    }
    Ok(micros)
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
