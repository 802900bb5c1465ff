//! One links service in a host of its own, and clients that call it as the edge does.

use std::time::{Duration, Instant};

use bus::{Bus, Reader, Start, Stored};
use mesh::{LocalAuthority, Mesh, MeshOptions};
use prometheus_client::registry::Registry;
use prost::Message as _;
use proto::common::v1::Scope;
use proto::events::v1::LinkChanged;
use proto::links::v1::domains_service_client::DomainsServiceClient;
use proto::links::v1::links_service_client::LinksServiceClient;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use proto::links::v1::{
    CreateLinkRequest, DeleteLinkRequest, Link, ResolveRequest, ResolveResponse, UpdateLinkRequest,
};
use rpc::{ApiKeyId, Permissions, Principal, WorkspaceId};
use service::{Host, HostConfig};
use stack::TestDatabase;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

/// Longer than any of it takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The shared domain of these tests.
pub(super) const SHARED: &str = "go.linkmesh.test";
/// Answers to 10,000 links are larger than tonic's default.
const RESPONSE_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(super) struct Service {
    pub(super) bus: Bus,
    registry: std::sync::Arc<dyn mesh::Registry>,
    authority: LocalAuthority,
    edge: Mesh,
    stop: CancellationToken,
    host: JoinHandle<anyhow::Result<()>>,
    database: Option<TestDatabase>,
    _folder: TempDir,
}

impl Service {
    pub(super) async fn start() -> Self {
        let schema = (links::NAME, &links::MIGRATIONS);
        let database = TestDatabase::migrated(&[schema]).await.unwrap();
        let mut service = Self::start_on(database.config()).await;
        service.database = Some(database);
        service
    }

    #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
    pub(super) async fn start_on(postgres: pg::Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(&folder.path().join("authority")).unwrap();
        let registry = mesh::registry::open("memory:").unwrap();
        let mut config = HostConfig::default();
        config.host.data = folder.path().to_owned();
        config.host.admin_listen = "127.0.0.1:0".parse().unwrap();
        config.host.instance = Some("links-test".to_owned());
        let (give_bus, bus) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let links_config =
            links::Config { shared_domain: SHARED.to_owned(), ..links::Config::new(postgres) };
        let stop = CancellationToken::new();
        let host = Host::new(config, "test")
            .with_registry(registry.clone())
            .add(links::NAME, "127.0.0.1:0".parse().unwrap(), |cx| {
                drop(give_bus.send(cx.bus.clone()));
                links::assemble(links_config, cx)
            })
            .tell_when_ready(ready);
        let host = tokio::spawn(host.run(stop.clone()));
        let mut service = Self {
            bus: tokio::time::timeout(PATIENCE, bus).await.unwrap().expect("the host assembles"),
            edge: mesh_of(&authority, &registry, "edge"),
            registry,
            authority,
            stop,
            host,
            database: None,
            _folder: folder,
        };
        if tokio::time::timeout(PATIENCE, is_ready).await.is_ok_and(|told| told.is_ok()) {
            return service;
        }
        service.stop.cancel();
        panic!("the host is not ready: {:?}", (&mut service.host).await);
    }

    /// A mesh of another service than the edge.
    pub(super) fn mesh_of(&self, service: &str) -> Mesh {
        mesh_of(&self.authority, &self.registry, service)
    }

    pub(super) fn links(&self) -> LinksServiceClient<Mesh> {
        LinksServiceClient::new(self.edge.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(super) fn domains(&self) -> DomainsServiceClient<Mesh> {
        DomainsServiceClient::new(self.edge.clone())
    }

    pub(super) async fn resolve(&self, domain: &str, slug: &str) -> ResolveResponse {
        let request = ResolveRequest { domain: domain.to_owned(), slug: slug.to_owned() };
        ResolverServiceClient::new(self.edge.clone()).resolve(request).await.unwrap().into_inner()
    }

    /// What was announced from the beginning, until `enough` says so.
    pub(super) async fn changes(
        &self,
        enough: impl Fn(&[LinkChanged]) -> bool,
    ) -> Vec<LinkChanged> {
        let deadline = Instant::now() + PATIENCE;
        let mut reader: Option<Reader> = None;
        let mut changes = Vec::new();
        while !enough(&changes) {
            assert!(Instant::now() < deadline, "announced so far: {changes:?}");
            let Some(open) = &mut reader else {
                // The relay makes the topic with the first change.
                let topic = bus::topics::LINK_CHANGES.name;
                reader = self.bus.reader(topic, 0, Start::Beginning).await.ok();
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let records = open.next(1_000, Duration::from_millis(100)).await.unwrap();
            changes.extend(records.into_iter().map(decoded));
        }
        changes
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.host).await.unwrap().unwrap().unwrap();
        self.edge.close().await;
    }
}

fn decoded(record: Stored) -> LinkChanged {
    let change = LinkChanged::decode(record.value).unwrap();
    let key = format!("{}/{}", change.domain, change.slug);
    assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
    change
}

fn mesh_of(
    authority: &LocalAuthority,
    registry: &std::sync::Arc<dyn mesh::Registry>,
    service: &str,
) -> Mesh {
    let options = MeshOptions {
        registry: registry.clone(),
        identity: authority.issue(service).unwrap(),
        zone: "local".to_owned(),
        region: "local".to_owned(),
        snapshot: None,
    };
    Mesh::start(options, &mut Registry::default()).unwrap()
}

/// A caller with every scope in a workspace of its own.
pub(super) fn owner() -> Principal {
    Principal::api_key(ApiKeyId::new(), WorkspaceId::new(), Permissions::ALL)
}

/// The same caller with one scope less.
pub(super) fn without(principal: &Principal, scope: Scope) -> Principal {
    let mut less = principal.clone();
    for grant in &mut less.grants {
        grant.permissions = grant.permissions.without(Permissions::of(&[scope]));
    }
    less
}

pub(super) fn parent(principal: &Principal) -> String {
    format!("workspaces/{}", principal.grants[0].workspace)
}

/// The request as the edge sends it for a caller.
pub(super) fn by<T>(principal: &Principal, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    principal.attach(request.metadata_mut());
    request
}

pub(super) fn to(destination: &str) -> Link {
    Link { destination_uri: destination.to_owned(), ..Link::default() }
}

pub(super) fn with_slug(slug: &str) -> Link {
    Link { slug: slug.to_owned(), ..to("https://example.com/") }
}

pub(super) async fn create(
    service: &Service,
    principal: &Principal,
    link: Link,
) -> Result<Link, Status> {
    let message = CreateLinkRequest {
        parent: parent(principal),
        link: Some(link),
        request_id: String::new(),
    };
    let response = service.links().create_link(by(principal, message)).await?;
    Ok(response.into_inner().link.unwrap())
}

pub(super) async fn update(
    service: &Service,
    principal: &Principal,
    link: Link,
    paths: &[&str],
) -> Result<Link, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let message = UpdateLinkRequest { link: Some(link), update_mask, ..Default::default() };
    let response = service.links().update_link(by(principal, message)).await?;
    Ok(response.into_inner().link.unwrap())
}

pub(super) async fn delete(
    service: &Service,
    principal: &Principal,
    name: &str,
) -> Result<(), Status> {
    let message = DeleteLinkRequest { name: name.to_owned(), ..Default::default() };
    service.links().delete_link(by(principal, message)).await.map(drop)
}

/// The stable reason of an error.
#[track_caller]
pub(super) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let status = result.unwrap_err();
    let info = status.get_details_error_info();
    info.unwrap_or_else(|| panic!("without ErrorInfo: {status:?}")).reason
}

/// The field that an error blames, and what it says of it.
#[track_caller]
pub(super) fn violation<T: std::fmt::Debug>(result: Result<T, Status>) -> (String, String) {
    let status = result.unwrap_err();
    let bad = status.get_details_bad_request();
    let bad = bad.unwrap_or_else(|| panic!("without BadRequest: {status:?}"));
    let first = bad.field_violations.first().unwrap();
    (first.field.clone(), first.description.clone())
}
