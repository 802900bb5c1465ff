//! `links` as both sides find it: an instance in the registry that answers at once, in a process of its own, so that what is
//! measured is not a database.

use crate::cluster::Cluster;
use crate::mesh::child;
use crate::mesh::child::Child;
use crate::mesh::child::Role;
use anyhow::Context as _;
use mesh::LocalAuthority;
use mesh::registry::Registration;
use prometheus_client::registry::Registry as Metrics;
use prost_types::Timestamp;
use proto::links::v1::BatchCreateLinksRequest;
use proto::links::v1::BatchCreateLinksResponse;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::CreateLinkResponse;
use proto::links::v1::DeleteLinkRequest;
use proto::links::v1::DeleteLinkResponse;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::GetLinkResponse;
use proto::links::v1::Link;
use proto::links::v1::ListLinksRequest;
use proto::links::v1::ListLinksResponse;
use proto::links::v1::RedirectStatus;
use proto::links::v1::UpdateLinkRequest;
use proto::links::v1::UpdateLinkResponse;
use proto::links::v1::links_service_server::LinksService;
use proto::links::v1::links_service_server::LinksServiceServer;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;

const GRPC_SERVICE: &str = "linkmesh.links.v1.LinksService";
const NAME: &str = "links";
const INSTANCE: &str = "links-bench";
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Those that it stands for.
const MEMBERS: [&str; 2] = ["links-1", "links-2"];

/// What it needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The folder of the authority that vouches for it.
    authority: PathBuf,
    /// `etcd://host:port`.
    registry: String,
}

/// The service, running; it ends when dropped.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) port: u16,
    _child: Child,
}

impl Service {
    /// Starts it, and stops the real ones.
    pub(super) async fn instead(cluster: &Cluster) -> anyhow::Result<Self> {
        let setup = Setup { authority: cluster.authority()?, registry: cluster.etcd()? };
        let (child, port) = Child::start(&Role::Links(setup)).await?;
        for member in MEMBERS {
            cluster.stop(member).await?;
        }
        Ok(Self { port, _child: child })
    }

    /// Ends it, and starts the real ones again.
    pub(super) async fn end(self, cluster: &Cluster) -> anyhow::Result<()> {
        drop(self);
        for member in MEMBERS {
            cluster.restart(member).await?;
        }
        Ok(())
    }
}

/// In the child.
pub(crate) async fn play(setup: Setup) -> anyhow::Result<()> {
    let identity = LocalAuthority::open_or_create(&setup.authority)?.issue(NAME)?;
    let access = mesh::Access::new().allow(GRPC_SERVICE, &["edge"]);
    let options = mesh::ServerOptions { instance: INSTANCE.to_owned(), identity, access };
    let server = mesh::Server::new(options, &mut Metrics::default()).context("its options")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let routes = tonic::service::Routes::new(LinksServiceServer::new(Links));
    let stop = CancellationToken::new();
    let serving = server.serve(listener, routes, stop.clone(), DRAIN_MAX);
    let registry = mesh::registry::open(&setup.registry)?;
    let registration = Registration::new(INSTANCE, NAME, &address.to_string(), &[GRPC_SERVICE]);
    let lease = registry.register(registration);
    let told = async {
        child::ready(&address.port()).await?;
        lease.withdraw().await;
        stop.cancel();
        anyhow::Ok(())
    };
    let ((), told) = tokio::join!(serving, told);
    told
}

#[derive(Debug)]
struct Links;

/// A link as most are.
fn link(name: String, destination_uri: String) -> Link {
    let time = Some(Timestamp { seconds: 1_796_024_472, nanos: 598_488_000 });
    Link {
        name,
        domain: "localhost".to_owned(),
        slug: "m578".to_owned(),
        destination_uri,
        short_uri: "http://localhost/m578".to_owned(),
        enabled: Some(true),
        redirect_status: RedirectStatus::Found.into(),
        create_time: time,
        update_time: time,
        etag: "661798b51dad8".to_owned(),
        ..Link::default()
    }
}

#[tonic::async_trait]
impl LinksService for Links {
    async fn create_link(
        &self,
        request: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        let CreateLinkRequest { parent, link: asked, .. } = request.into_inner();
        let name = format!("{parent}/links/lnk_01a22b673ff870f4b15612879c9cbc05");
        let destination = asked.unwrap_or_default().destination_uri;
        Ok(Response::new(CreateLinkResponse { link: Some(link(name, destination)) }))
    }

    async fn get_link(
        &self,
        request: Request<GetLinkRequest>,
    ) -> Result<Response<GetLinkResponse>, Status> {
        let name = request.into_inner().name;
        let link = link(name, "https://example.com/landing?campaign=autumn".to_owned());
        Ok(Response::new(GetLinkResponse { link: Some(link) }))
    }

    async fn batch_create_links(
        &self,
        _: Request<BatchCreateLinksRequest>,
    ) -> Result<Response<BatchCreateLinksResponse>, Status> {
        Err(Status::unimplemented("nobody measures it"))
    }

    async fn list_links(
        &self,
        _: Request<ListLinksRequest>,
    ) -> Result<Response<ListLinksResponse>, Status> {
        Err(Status::unimplemented("nobody measures it"))
    }

    async fn update_link(
        &self,
        _: Request<UpdateLinkRequest>,
    ) -> Result<Response<UpdateLinkResponse>, Status> {
        Err(Status::unimplemented("nobody measures it"))
    }

    async fn delete_link(
        &self,
        _: Request<DeleteLinkRequest>,
    ) -> Result<Response<DeleteLinkResponse>, Status> {
        Err(Status::unimplemented("nobody measures it"))
    }
}
