//! An edge that runs, with doubles behind it, a bus in a folder and a key that is valid.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use auth::ApiKey;
use bus::Bus;
use bus::Record;
use bus::Start;
use bus::Stored;
use proto::analytics::v1::analytics_service_server::AnalyticsServiceServer;
use proto::analytics::v1::salts_service_server::SaltsServiceServer;
use proto::common::v1::Scope;
use proto::events::v1::ApiKeyChanged;
use proto::events::v1::Click;
use proto::events::v1::LinkChanged;
use proto::identity::v1::authentication_service_server::AuthenticationServiceServer;
use proto::identity::v1::json_web_keys_service_server::JsonWebKeysServiceServer;
use proto::links::v1::Route;
use proto::links::v1::links_service_server::LinksServiceServer;
use proto::links::v1::resolver_service_server::ResolverServiceServer;
use rpc::ApiKeyId;
use rpc::LinkId;
use rpc::Permissions;
use rpc::Principal;
use rpc::WorkspaceId;
use service::Assembly;
use service::HostConfig;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::request;
use super::doubles::Doubles;
use super::streaming;
use super::streaming::Streams;
use super::widgets::Widgets;

/// A running edge and what is behind it.
pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) doubles: Doubles,
    pub(super) streams: Streams,
    pub(super) bus: Bus,
    pub(super) key: ApiKey,
    pub(super) principal: Principal,
    pub(super) stop: CancellationToken,
    /// Where its metrics are.
    admin: SocketAddr,
    /// The file that its limits are read from.
    limits: PathBuf,
    running: JoinSet<anyhow::Result<()>>,
    _folder: tempfile::TempDir,
}

/// Limits that no test comes near which is not about them.
const LIFTED: &str = "[tiers]\nfree = 1000000\n[addresses]\nminute = 1000000\n\
                      [redirects]\nsecond = 1000000\n";
const LINKS: [&str; 2] = ["linkmesh.links.v1.ResolverService", "linkmesh.links.v1.LinksService"];
const IDENTITY: [&str; 2] =
    ["linkmesh.identity.v1.AuthenticationService", "linkmesh.identity.v1.JsonWebKeysService"];
const ANALYTICS: [&str; 2] =
    ["linkmesh.analytics.v1.AnalyticsService", "linkmesh.analytics.v1.SaltsService"];

impl World {
    /// With the defaults of the configuration, but for the port and the limits.
    pub(super) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(configure: impl FnOnce(&mut edge::Config)) -> Self {
        Self::limited(LIFTED, configure).await
    }

    /// With the API of streams, which it was not built with, and nothing else.
    pub(super) async fn streaming(configure: impl FnOnce(&mut edge::Config)) -> Self {
        let configure = |config: &mut edge::Config, folder: &Path| {
            config.descriptors_file = Some(streaming::write_descriptors(folder));
            configure(config);
        };
        Self::opened(LIFTED, &[streaming::SERVICE], configure, &[]).await
    }

    /// With these limits.
    pub(super) async fn limited(limits: &str, configure: impl FnOnce(&mut edge::Config)) -> Self {
        Self::limited_to(limits, configure, &[]).await
    }

    /// With services of other teams, each under its name in the mesh.
    pub(super) async fn beside(
        others: &[(&'static str, Widgets)],
        configure: impl FnOnce(&mut edge::Config),
    ) -> Self {
        Self::limited_to(LIFTED, configure, others).await
    }

    async fn limited_to(
        limits: &str,
        configure: impl FnOnce(&mut edge::Config),
        others: &[(&'static str, Widgets)],
    ) -> Self {
        let services = ["linkmesh.links.v1.LinksService", "linkmesh.analytics.v1.AnalyticsService"];
        Self::opened(limits, &services, |config, _| configure(config), others).await
    }

    /// Ready once it has found these services.
    async fn opened(
        limits: &str,
        services: &[&str],
        configure: impl FnOnce(&mut edge::Config, &Path),
        others: &[(&'static str, Widgets)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let limits_file = folder.path().join("limits.toml");
        std::fs::write(&limits_file, limits).expect("written");
        let (doubles, streams) = (Doubles::new(), Streams::default());
        let key = ApiKey::generate().expect("entropy");
        let scopes = [Scope::LinksRead, Scope::LinksWrite, Scope::AnalyticsRead];
        let workspace = WorkspaceId::new();
        let principal = Principal::api_key(ApiKeyId::new(), workspace, Permissions::of(&scopes));
        doubles.state().workspace = Some(workspace);
        doubles.state().domains.insert("l.example".to_owned(), false);
        doubles.state().keys.insert(key.reveal().to_owned(), (principal.clone(), 1));

        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = edge::Config {
            listen: any_port,
            drain_max: Duration::from_secs(10),
            ..edge::Config::default()
        };
        config.limits.file = Some(limits_file.clone());
        configure(&mut config, folder.path());
        let mut host_config = HostConfig::default();
        host_config.host.data = folder.path().to_owned();
        host_config.host.admin_listen = any_port;
        host_config.host.instance = Some("test".to_owned());

        let (tell_address, address) = oneshot::channel();
        let (tell_bus, bus) = oneshot::channel();
        let (tell_ready, ready) = oneshot::channel();
        let (for_links, for_identity, for_analytics) =
            (doubles.clone(), doubles.clone(), doubles.clone());
        let mut host = service::Host::new(host_config, "test")
            .add("links", any_port, async move |_| {
                let routes = Routes::new(ResolverServiceServer::new(for_links.clone()))
                    .add_service(LinksServiceServer::new(for_links));
                Ok(assembly(routes, &LINKS))
            })
            .add("identity", any_port, async move |_| {
                let routes = Routes::new(AuthenticationServiceServer::new(for_identity.clone()))
                    .add_service(JsonWebKeysServiceServer::new(for_identity));
                Ok(assembly(routes, &IDENTITY))
            })
            .add("analytics", any_port, async move |_| {
                let routes = Routes::new(AnalyticsServiceServer::new(for_analytics.clone()))
                    .add_service(SaltsServiceServer::new(for_analytics));
                Ok(assembly(routes, &ANALYTICS))
            })
            .add("streams", any_port, {
                let routes = Routes::new(streams.clone());
                async move |_| Ok(assembly(routes, &[streaming::SERVICE]))
            })
            .add_front(edge::NAME, any_port, async move |cx| {
                tell_bus.send(cx.bus.clone()).expect("the test waits");
                let (assembly, address) = edge::open(config, cx).await?;
                tell_address.send(address).expect("the test waits");
                Ok(assembly)
            })
            .tell_when_ready(tell_ready);
        for (name, widgets) in others {
            let routes = Routes::new(widgets.clone());
            host = host.add(*name, any_port, async move |_| Ok(assembly(routes, &[Widgets::NAME])));
        }
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(host.run(stop.clone()));
        let started = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                started = async { tokio::try_join!(ready, address, bus) } => started.ok(),
                ended = running.join_next() => panic!("the host ended: {ended:?}"),
            }
        });
        let (addresses, address, bus) =
            started.await.expect("it starts in time").expect("it tells");
        let world = Self {
            address,
            doubles,
            streams,
            bus,
            key,
            principal,
            stop,
            admin: addresses.admin,
            limits: limits_file,
            running,
            _folder: folder,
        };
        world.until_services_are_found(services).await;
        world
    }

    /// Ready means that the edge is; whom it has found behind it, it says by health.
    async fn until_services_are_found(&self, services: &[&str]) {
        self.eventually("the services are found", async || {
            let mut connection = Connection::http2(self.address).await;
            let mut all = true;
            for service in services {
                let service = (*service).to_owned();
                let message = tonic_health::pb::HealthCheckRequest { service };
                let path = self.uri("/grpc.health.v1.Health/Check");
                let headers = [("content-type", "application/grpc"), ("te", "trailers")];
                let call = request("POST", &path, &headers, super::clients::frame(&message));
                let answer = connection.send(call).await;
                let said =
                    super::clients::messages::<tonic_health::pb::HealthCheckResponse>(&answer.body);
                all &= said.iter().any(|response| response.status == 1);
            }
            all
        })
        .await;
    }

    /// Has other limits hold, as soon as the edge has read them.
    pub(super) fn limit(&self, limits: &str) {
        let new = self.limits.with_extension("new");
        std::fs::write(&new, limits).expect("written");
        std::fs::rename(&new, &self.limits).expect("renamed");
    }

    /// A sample of the edge's metrics; none if there is no such.
    pub(super) async fn metric(&self, sample: &str) -> Option<f64> {
        let asked = request("GET", "/metrics", &[], "");
        let text = Connection::http1(self.admin).await.send(asked).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().expect("a number"))
    }

    pub(super) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.key.reveal())
    }

    /// The REST name of the workspace.
    pub(super) fn workspace(&self) -> String {
        format!("/v1/workspaces/{}", self.principal.grants[0].workspace)
    }

    /// One request on a connection of its own, HTTP/1.1.
    pub(super) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_body(method, path, headers, "").await
    }

    pub(super) async fn send_body(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Answer {
        Connection::http1(self.address).await.send(request(method, path, headers, body)).await
    }

    /// A link in the resolver's store.
    pub(super) fn put(&self, slug: &str, version: i64, route: Option<Route>) {
        let key = ("l.example".to_owned(), slug.to_owned());
        self.doubles.state().routes.insert(key, (route, version));
    }

    /// A change as `links` makes it: committed, then announced.
    pub(super) async fn change(&self, slug: &str, version: i64, route: Option<Route>) {
        self.put(slug, version, route.clone());
        self.announce(slug, version, route).await;
    }

    /// Announces a change on the bus.
    pub(super) async fn announce(&self, slug: &str, version: i64, route: Option<Route>) {
        self.announce_on("l.example", slug, version, route).await;
    }

    /// Announces a change on any domain.
    pub(super) async fn announce_on(
        &self,
        domain: &str,
        slug: &str,
        version: i64,
        route: Option<Route>,
    ) {
        let change =
            LinkChanged { domain: domain.to_owned(), slug: slug.to_owned(), version, route };
        self.publish(bus::topics::LINK_CHANGES.name, slug, &change).await;
    }

    pub(super) async fn announce_key(&self, version: i64) {
        let change = ApiKeyChanged { prefix: self.key.prefix().to_owned(), version };
        self.publish(bus::topics::KEY_CHANGES.name, self.key.prefix(), &change).await;
    }

    pub(super) async fn publish(&self, topic: &str, key: &str, value: &impl prost::Message) {
        let record = Record {
            key: Some(key.to_owned().into()),
            headers: Vec::new(),
            value: value.encode_to_vec().into(),
        };
        let produced = self.bus.produce(topic, 0, record);
        tokio::time::timeout(PATIENCE, produced).await.expect("in time").expect("it is taken");
    }

    /// Waits until this many clicks are on the bus, and gives them.
    pub(super) async fn clicks(&self, count: usize) -> Vec<Click> {
        let topic = bus::topics::LINK_EVENTS;
        self.bus.ensure_topic(&topic).await.expect("the bus is there");
        let reading = async {
            let mut clicks = Vec::new();
            let mut readers = Vec::new();
            for partition in 0..topic.partitions {
                let reader = self.bus.reader(topic.name, partition, Start::Beginning).await;
                readers.push(reader.expect("a reader"));
            }
            while clicks.len() < count {
                for reader in &mut readers {
                    let records = reader.next(100, Duration::from_millis(5)).await.expect("read");
                    clicks.extend(records.iter().flat_map(decode));
                }
            }
            clicks
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the clicks come")
    }

    /// Polls until `attempt` says yes.
    pub(super) async fn eventually<F>(&self, what: &str, attempt: impl Fn() -> F)
    where
        F: Future<Output = bool>,
    {
        let polling = async {
            while !attempt().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect(what);
    }

    /// Stops the edge and all behind it, and says how that went.
    pub(super) async fn stopped(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running.join_next()).await;
        ended.expect("it stops in time").expect("it ran").expect("it did not panic")
    }
}

fn assembly(routes: Routes, grpc_services: &[&'static str]) -> Assembly {
    let access = grpc_services
        .iter()
        .fold(mesh::Access::new(), |access, service| access.allow(service, &[edge::NAME]));
    Assembly { routes, grpc_services: grpc_services.to_vec(), access, ..Assembly::default() }
}

fn decode(record: &Stored) -> Vec<Click> {
    let clicks = bus::clicks::decode(record).expect("a record of clicks").clicks;
    clicks.into_iter().map(|click| prost::Message::decode(click).expect("a click")).collect()
}

/// A link to `destination`, of a workspace that does not matter.
pub(super) fn route(destination: &str) -> Route {
    Route {
        link_id: LinkId::new().as_bytes().to_vec(),
        workspace_id: WorkspaceId::new().as_bytes().to_vec(),
        destination_uri: destination.to_owned(),
        status: 302,
        enabled: true,
        ..Route::default()
    }
}
