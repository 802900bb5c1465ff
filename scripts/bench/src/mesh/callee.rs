//! The callee, in a process of its own: the same handler behind tonic's server and behind the mesh's, plain and with mutual
//! TLS.

use super::certificates;
use super::child;
use super::child::Child;
use super::child::Role;
use anyhow::Context as _;
use mesh::identity::Identity;
use mesh::identity::LocalAuthority;
use proto::links::v1::ResolveRequest;
use proto::links::v1::ResolveResponse;
use proto::links::v1::Route;
use proto::links::v1::resolver_service_server::ResolverService;
use proto::links::v1::resolver_service_server::ResolverServiceServer;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// The gRPC service that is called.
pub(super) const GRPC_SERVICE: &str = "linkmesh.links.v1.ResolverService";
/// Who calls, and who is called.
pub(super) const CALLER: &str = "edge";
pub(super) const CALLEE: &str = "links";
/// How many bytes a request and a response carry.
pub(super) const PAYLOAD_BYTES: usize = 1_000;
/// Listeners of each kind: the row with several connections uses them all.
const LISTENERS: usize = 4;
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What a callee needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The folder of the authority that vouches for both sides.
    authority: PathBuf,
}

/// Where it listens, `host:port`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Addresses {
    pub(super) bare: Vec<String>,
    pub(super) bare_mtls: Vec<String>,
    pub(super) mesh: Vec<String>,
    pub(super) mesh_mtls: Vec<String>,
}

/// A callee that runs.
#[derive(Debug)]
pub(super) struct Callee {
    pub(super) child: Child,
    pub(super) addresses: Addresses,
}

impl Callee {
    pub(super) async fn start(authority: &Path) -> anyhow::Result<Self> {
        let setup = Setup { authority: authority.to_owned() };
        let (child, addresses) = Child::start(&Role::Callee(setup)).await?;
        Ok(Self { child, addresses })
    }
}

/// In the child.
pub(super) async fn play(setup: Setup) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let authority = LocalAuthority::open_or_create(&setup.authority)?;
    // Without certificates a peer is taken for a service of the same name.
    let nobody = Identity::plaintext_for_bench(CALLEE)?;
    let somebody = authority.issue(CALLEE)?;
    let pem = certificates::issue(&setup.authority, CALLEE)?;
    let tls = tonic::transport::ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(pem.certificate, pem.key))
        .client_ca_root(tonic::transport::Certificate::from_pem(pem.root));

    let mut addresses = Addresses {
        bare: Vec::new(),
        bare_mtls: Vec::new(),
        mesh: Vec::new(),
        mesh_mtls: Vec::new(),
    };
    for _ in 0..LISTENERS {
        let plain = tonic::transport::Server::builder();
        addresses.bare.push(serve_bare(plain, Resolver, &mut servers, &stop).await?);
        let secure = tonic::transport::Server::builder().tls_config(tls.clone())?;
        addresses.bare_mtls.push(serve_bare(secure, Resolver, &mut servers, &stop).await?);
        let plain = serve_mesh(nobody.clone(), CALLEE, &mut servers, &stop);
        addresses.mesh.push(plain.await?);
        let secure = serve_mesh(somebody.clone(), CALLER, &mut servers, &stop);
        addresses.mesh_mtls.push(secure.await?);
    }
    child::ready(&addresses).await?;
    stop.cancel();
    while servers.join_next().await.is_some() {}
    Ok(())
}

/// Serves with tonic's server as it comes.
pub(super) async fn serve_bare(
    mut server: tonic::transport::Server,
    handler: impl ResolverService,
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let router = server.add_service(ResolverServiceServer::new(handler));
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

/// Serves as every service does.
async fn serve_mesh(
    identity: Identity,
    caller: &str,
    servers: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<String> {
    let mut metrics = prometheus_client::registry::Registry::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let access = mesh::Access::new().allow(GRPC_SERVICE, &[caller]);
    let options = mesh::ServerOptions { instance: address.clone(), identity, access };
    let server = mesh::Server::new(options, &mut metrics).context("the server's options")?;
    let routes = tonic::service::Routes::new(ResolverServiceServer::new(Resolver));
    let stop = stop.clone();
    servers.spawn(async move { server.serve(listener, routes, stop, DRAIN_MAX).await });
    Ok(address)
}

/// Answers at once, as much as it was asked.
#[derive(Debug)]
struct Resolver;

#[tonic::async_trait]
impl ResolverService for Resolver {
    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        Ok(Response::new(answer(request.into_inner())))
    }
}

/// The response to a request.
pub(super) fn answer(request: ResolveRequest) -> ResolveResponse {
    let route = Route { destination_uri: request.slug, status: 302, ..Route::default() };
    ResolveResponse { route: Some(route), version: 1, ..ResolveResponse::default() }
}
