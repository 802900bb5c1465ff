//! A saturated unary call through the mesh beside one through tonic's bare `Channel`, plain and with mutual TLS.
//!
//! Caller and callee run in this process, each side alone at its time, so the process's CPU is what a call costs at both ends.

use crate::procfs::CpuMicros;
use crate::report::Figure;
use anyhow::Context as _;
use mesh::identity::Identity;
use mesh::identity::LocalAuthority;
use proto::links::v1::ResolveRequest;
use proto::links::v1::ResolveResponse;
use proto::links::v1::Route;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use proto::links::v1::resolver_service_server::ResolverService;
use proto::links::v1::resolver_service_server::ResolverServiceServer;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// Calls in flight at any time.
const CONCURRENCY: usize = 64;
/// What one side of a run is driven for.
const DURATION: Duration = Duration::from_secs(4);
const DRAIN_MAX: Duration = Duration::from_secs(1);
const GRPC_SERVICE: &str = "linkmesh.links.v1.ResolverService";

/// Runs the bench `runs` times.
pub(crate) async fn run(runs: usize) -> anyhow::Result<Vec<Figure>> {
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let folder = tempfile::tempdir()?;
    let authority = LocalAuthority::open_or_create(folder.path())?;

    let bare = bare(&mut servers, &stop).await?;
    let bare_mtls = bare_mtls(&mut servers, &stop).await?;
    // Without certificates a peer is taken for a service of the same name.
    let nobody = Identity::plaintext_for_bench("links")?;
    let mesh = through_mesh(&mut servers, &stop, [nobody.clone(), nobody]).await?;
    let identities = [authority.issue("edge")?, authority.issue("links")?];
    let mesh_mtls = through_mesh(&mut servers, &stop, identities).await?;

    let (mut cpu, mut rate) = (Vec::new(), Vec::new());
    let (mut cpu_mtls, mut rate_mtls) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let ours = saturate(ResolverServiceClient::new(mesh.clone())).await?;
        let peer = saturate(ResolverServiceClient::new(bare.clone())).await?;
        cpu.push((ours.cpu_micros, peer.cpu_micros));
        rate.push((ours.per_second, peer.per_second));
        let ours = saturate(ResolverServiceClient::new(mesh_mtls.clone())).await?;
        let peer = saturate(ResolverServiceClient::new(bare_mtls.clone())).await?;
        cpu_mtls.push((ours.cpu_micros, peer.cpu_micros));
        rate_mtls.push((ours.per_second, peer.per_second));
    }
    mesh.close().await;
    mesh_mtls.close().await;
    stop.cancel();
    while servers.join_next().await.is_some() {}
    const PEER: &str = "tonic Channel";
    Ok(vec![
        Figure::beside("unary call, plain, both ends", "CPU µs/call", PEER, &cpu, None),
        Figure::beside("unary call, plain", "calls/s", PEER, &rate, None),
        Figure::beside("unary call, mTLS, both ends", "CPU µs/call", PEER, &cpu_mtls, None),
        Figure::beside("unary call, mTLS", "calls/s", PEER, &rate_mtls, None),
    ])
}

struct Cost {
    cpu_micros: f64,
    per_second: f64,
}

async fn saturate<C>(client: ResolverServiceClient<C>) -> anyhow::Result<Cost>
where
    C: tonic::client::GrpcService<tonic::body::Body, Error: Into<tower::BoxError>>
        + Clone
        + Send
        + 'static,
    C::Future: Send,
    C::ResponseBody:
        http_body::Body<Data = bytes::Bytes, Error: Into<tower::BoxError> + Send> + Send + 'static,
{
    // Connections are made and code is warm before anything is counted.
    drive(&client, Duration::from_millis(300)).await?;
    let before = CpuMicros::of(std::process::id())?;
    let start = Instant::now();
    let calls = drive(&client, DURATION).await? as f64;
    let seconds = start.elapsed().as_secs_f64();
    let used = CpuMicros::of(std::process::id())?.since(&before, |_| true);
    Ok(Cost { cpu_micros: used / calls, per_second: calls / seconds })
}

async fn drive<C>(client: &ResolverServiceClient<C>, duration: Duration) -> anyhow::Result<u64>
where
    C: tonic::client::GrpcService<tonic::body::Body, Error: Into<tower::BoxError>>
        + Clone
        + Send
        + 'static,
    C::Future: Send,
    C::ResponseBody:
        http_body::Body<Data = bytes::Bytes, Error: Into<tower::BoxError> + Send> + Send + 'static,
{
    let deadline = Instant::now() + duration;
    let mut callers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let mut client = client.clone();
        callers.spawn(async move {
            let mut calls = 0_u64;
            while Instant::now() < deadline {
                let request =
                    ResolveRequest { domain: "go.example".into(), slug: "x7k2m9q".into() };
                client.resolve(request).await?;
                calls += 1;
            }
            Ok::<_, Status>(calls)
        });
    }
    let mut sum = 0;
    while let Some(calls) = callers.join_next().await {
        sum += calls?.context("a call failed")?;
    }
    Ok(sum)
}

async fn bare(
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<tonic::transport::Channel> {
    let address = serve_bare(tonic::transport::Server::builder(), servers, stop).await?;
    Ok(tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
}

async fn bare_mtls(
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<tonic::transport::Channel> {
    let key = rcgen::KeyPair::generate()?;
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let identity = tonic::transport::Identity::from_pem(certificate.pem(), key.serialize_pem());
    let root = tonic::transport::Certificate::from_pem(certificate.pem());
    let tls = tonic::transport::ServerTlsConfig::new()
        .identity(identity.clone())
        .client_ca_root(root.clone());
    let server = tonic::transport::Server::builder().tls_config(tls)?;
    let address = serve_bare(server, servers, stop).await?;
    let tls = tonic::transport::ClientTlsConfig::new()
        .identity(identity)
        .ca_certificate(root)
        .domain_name("localhost");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}"))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

async fn serve_bare(
    mut server: tonic::transport::Server,
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = server.add_service(ResolverServiceServer::new(Resolver));
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopped = stop.clone().cancelled_owned();
    servers.spawn(async move {
        router
            .serve_with_incoming_shutdown(incoming, stopped)
            .await
            .expect("the listener is bound");
    });
    Ok(address)
}

/// A channel of the mesh to a server of its own; the identities are the caller's and the server's.
async fn through_mesh(
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
    [caller, identity]: [Identity; 2],
) -> anyhow::Result<mesh::Mesh> {
    let mut metrics = prometheus_client::registry::Registry::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let access = mesh::Access::new().allow(GRPC_SERVICE, &[caller.service()]);
    // The channel tells instances apart by what they are registered as.
    let options = mesh::ServerOptions { instance: address.clone(), identity, access };
    let server = mesh::Server::new(options, &mut metrics)?;
    let routes = tonic::service::Routes::new(ResolverServiceServer::new(Resolver));
    let stop = stop.clone();
    servers.spawn(async move { server.serve(listener, routes, stop, DRAIN_MAX).await });
    mesh::Mesh::to_one(caller, "links", &address, &[GRPC_SERVICE])
}

/// Answers at once with a route as long as most.
#[derive(Debug)]
struct Resolver;

#[tonic::async_trait]
impl ResolverService for Resolver {
    async fn resolve(
        &self,
        _: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        let route = Route {
            link_id: vec![1; 16],
            workspace_id: vec![2; 16],
            destination_uri: "https://example.com/landing?utm_source=newsletter".to_owned(),
            status: 302,
            enabled: true,
            ..Route::default()
        };
        Ok(Response::new(ResolveResponse {
            route: Some(route),
            version: 1,
            ..ResolveResponse::default()
        }))
    }
}
