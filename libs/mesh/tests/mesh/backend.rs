//! A real server of the mesh with a service that does what a test says.

use crate::chat::Chat;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::registration;
use mesh::Access;
use mesh::Identity;
use mesh::Mesh;
use mesh::PeerIdentity;
use mesh::Registry;
use mesh::Server;
use mesh::ServerOptions;
use mesh::registry::Lease;
use prometheus_client::registry::Registry as Metrics;
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
use proto::links::v1::UpdateLinkRequest;
use proto::links::v1::UpdateLinkResponse;
use proto::links::v1::links_service_client::LinksServiceClient;
use proto::links::v1::links_service_server::LinksService;
use proto::links::v1::links_service_server::LinksServiceServer;
use rpc::Deadline;
use rpc::Principal;
use rpc::Requirement;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

pub(crate) const LINKS: &str = "linkmesh.links.v1.LinksService";
pub(crate) const CHAT: &str = "test.v1.Chat";

/// What a client may compress with, and is answered in.
const COMPRESSIONS: [CompressionEncoding; 2] =
    [CompressionEncoding::Gzip, CompressionEncoding::Zstd];

/// What a backend does with a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    Answer,
    AnswerAfter(Duration),
    Fail(Code),
    /// UNAVAILABLE, and this as `grpc-retry-pushback-ms`.
    PushBack(&'static str),
    Hang,
    Panic,
    /// Keeps its thread busy, for a millisecond at least, until it is told that that is enough.
    Compute,
    /// Ask the next service, in this task or in one of its own, and answer what it answers.
    CallOn,
    CallOnFromATask,
}

/// What a handler saw of its last call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) peer: Option<PeerIdentity>,
    pub(crate) principal: Option<Principal>,
    pub(crate) requires: Option<Requirement>,
    pub(crate) time_left: Option<Duration>,
    pub(crate) metadata: tonic::metadata::MetadataMap,
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    instance: String,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Seen>>,
    calls: Arc<AtomicUsize>,
    next: Arc<Mutex<Option<Mesh>>>,
    /// Held by each handler until it ends or is dropped.
    under_way: Arc<()>,
    /// What is computed is done.
    computed: Arc<AtomicBool>,
}

impl Fake {
    async fn link<T>(&self, request: Request<T>) -> Result<Link, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _under_way = Arc::clone(&self.under_way);
        let extensions = request.extensions();
        let deadline = extensions.get::<Deadline>();
        *self.seen.lock().unwrap() = Seen {
            peer: extensions.get::<PeerIdentity>().cloned(),
            principal: extensions.get::<Principal>().cloned(),
            requires: extensions.get::<Requirement>().copied(),
            time_left: deadline.map(|deadline| deadline.left(Instant::now())),
            metadata: request.metadata().clone(),
        };
        let behaviour = *self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Answer => {}
            Behaviour::AnswerAfter(time) => tokio::time::sleep(time).await,
            Behaviour::Fail(code) => return Err(Status::new(code, "as the test says")),
            Behaviour::PushBack(millis) => {
                let mut status = Status::unavailable("as the test says");
                status.metadata_mut().insert("grpc-retry-pushback-ms", millis.parse().unwrap());
                return Err(status);
            }
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Panic => panic!("as the test says"),
            Behaviour::Compute => self.compute(),
            Behaviour::CallOn => drop(self.call_on().await?),
            Behaviour::CallOnFromATask => {
                let this = self.clone();
                drop(spawn(async move { this.call_on().await }).await.unwrap()?);
            }
        }
        Ok(Link { display_name: self.instance.clone(), ..Link::default() })
    }

    /// Uses a processor for a millisecond, or until it may end; not for ever, since a runtime can't end before it does.
    fn compute(&self) {
        let begun = Instant::now();
        let enough = || self.computed.load(Ordering::SeqCst) || begun.elapsed() > PATIENCE;
        while begun.elapsed() < Duration::from_millis(1) || !enough() {
            std::hint::spin_loop();
        }
    }

    async fn call_on(&self) -> Result<Response<GetLinkResponse>, Status> {
        let next = self.next.lock().unwrap().clone().expect("the test says whom to ask");
        LinksServiceClient::new(next).get_link(GetLinkRequest::default()).await
    }
}

#[tonic::async_trait]
impl LinksService for Fake {
    async fn create_link(
        &self,
        request: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        let link = Some(self.link(request).await?);
        Ok(Response::new(CreateLinkResponse { link }))
    }

    async fn get_link(
        &self,
        request: Request<GetLinkRequest>,
    ) -> Result<Response<GetLinkResponse>, Status> {
        let size = request.get_ref().name.len();
        let mut link = self.link(request).await?;
        link.destination_uri = "x".repeat(size);
        Ok(Response::new(GetLinkResponse { link: Some(link) }))
    }

    async fn batch_create_links(
        &self,
        _: Request<BatchCreateLinksRequest>,
    ) -> Result<Response<BatchCreateLinksResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn list_links(
        &self,
        _: Request<ListLinksRequest>,
    ) -> Result<Response<ListLinksResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn update_link(
        &self,
        _: Request<UpdateLinkRequest>,
    ) -> Result<Response<UpdateLinkResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn delete_link(
        &self,
        _: Request<DeleteLinkRequest>,
    ) -> Result<Response<DeleteLinkResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }
}

/// A server that runs, and is registered.
pub(crate) struct Backend {
    fake: Fake,
    pub(crate) address: String,
    pub(crate) lease: Option<Box<dyn Lease>>,
    pub(crate) taps: mesh::Taps,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    /// Its own channel, by which it learns its policy.
    _own: Option<Mesh>,
}

impl Backend {
    /// Serves as an instance of `links`, which `edge`, `operator` and `analytics` may call.
    pub(crate) async fn start(world: &World, instance: &str, behaviour: Behaviour) -> Self {
        let mut backend = Self::unregistered(world, "links", instance, behaviour).await;
        let registration = registration(instance, &backend.address, &[LINKS, CHAT]);
        backend.lease = Some(world.registry.register(registration));
        backend
    }

    /// The same, registered elsewhere, or by another way to the same registry.
    pub(crate) async fn start_at(
        world: &World,
        registry: &Arc<dyn Registry>,
        instance: &str,
    ) -> Self {
        let mut backend = Self::unregistered(world, "links", instance, Behaviour::Answer).await;
        let registration = registration(instance, &backend.address, &[LINKS, CHAT]);
        backend.lease = Some(registry.register(registration));
        backend
    }

    /// The same under an identity that the test has in hand.
    pub(crate) async fn start_as(world: &World, identity: Identity, instance: &str) -> Self {
        let mut backend =
            Self::serve(identity, instance, Behaviour::Answer, None, &mut Metrics::default()).await;
        let registration = registration(instance, &backend.address, &[LINKS, CHAT]);
        backend.lease = Some(world.registry.register(registration));
        backend
    }

    /// As an instance of this version, of [`LINKS`].
    pub(crate) async fn start_version(
        world: &World,
        instance: &str,
        version: &str,
        behaviour: Behaviour,
    ) -> Self {
        let mut backend = Self::unregistered(world, "links", instance, behaviour).await;
        let mut registration = registration(instance, &backend.address, &[LINKS]);
        registration.version = version.to_owned();
        backend.lease = Some(world.registry.register(registration));
        backend
    }

    pub(crate) async fn unregistered(
        world: &World,
        service: &str,
        instance: &str,
        behaviour: Behaviour,
    ) -> Self {
        let (identity, metrics) = (world.identity(service), &mut Metrics::default());
        Self::serve(identity, instance, behaviour, None, metrics).await
    }

    /// The same as [`start`](Self::start), and it obeys the policy of `links`; what it counts goes to `metrics`.
    pub(crate) async fn obeying(
        world: &World,
        instance: &str,
        behaviour: Behaviour,
        metrics: &mut Metrics,
    ) -> Self {
        let (own, identity) = (Some(world.mesh("links")), world.identity("links"));
        let mut backend = Self::serve(identity, instance, behaviour, own, metrics).await;
        let registration = registration(instance, &backend.address, &[LINKS, CHAT]);
        backend.lease = Some(world.registry.register(registration));
        backend
    }

    /// Without TLS and a registry; every peer is taken for `edge`.
    pub(crate) async fn plaintext(instance: &str) -> Self {
        let identity = Identity::plaintext_for_bench("edge").unwrap();
        let metrics = &mut Metrics::default();
        Self::serve(identity, instance, Behaviour::Answer, None, metrics).await
    }

    async fn serve(
        identity: Identity,
        instance: &str,
        behaviour: Behaviour,
        own: Option<Mesh>,
        metrics: &mut Metrics,
    ) -> Self {
        let fake = Fake {
            instance: instance.to_owned(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            seen: Arc::default(),
            calls: Arc::default(),
            next: Arc::default(),
            under_way: Arc::default(),
            computed: Arc::default(),
        };
        let access =
            Access::new().allow(LINKS, &["edge", "operator", "analytics"]).allow(CHAT, &["edge"]);
        let options = ServerOptions { instance: instance.to_owned(), identity, access };
        let mut server = Server::new(options, metrics).unwrap();
        if let Some(own) = &own {
            server = server.with_policy(own.policy());
        }
        let taps = server.taps();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let links = LinksServiceServer::new(fake.clone()).max_encoding_message_size(16 << 20);
        let links = COMPRESSIONS.iter().fold(links, |links, &encoding| {
            links.accept_compressed(encoding).send_compressed(encoding)
        });
        let routes = Routes::new(links.max_decoding_message_size(16 << 20)).add_service(Chat);
        let serve = server.serve(listener, routes, stop.clone(), Duration::from_secs(10));
        let serving = spawn(serve);
        Self { fake, address, lease: None, taps, stop, serving, _own: own }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.fake.behaviour.lock().unwrap() = behaviour;
    }

    /// Whether what it computes is done.
    pub(crate) fn let_compute(&self, done: bool) {
        self.fake.computed.store(done, Ordering::SeqCst);
    }

    /// Whom to ask when it is told to.
    pub(crate) fn calls_on(&self, next: Mesh) {
        *self.fake.next.lock().unwrap() = Some(next);
    }

    /// How many handlers run: each clones the one token, of which a service has no more than of its counter.
    pub(crate) fn under_way(&self) -> usize {
        Arc::strong_count(&self.fake.under_way) - Arc::strong_count(&self.fake.calls)
    }

    pub(crate) fn calls(&self) -> usize {
        self.fake.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.fake.seen.lock().unwrap().clone()
    }

    /// Leaves as a host does: says so, then finishes what is in flight.
    pub(crate) async fn leave(self) {
        let Self { lease, stop, serving, .. } = self;
        let mut lease = lease.expect("it is registered");
        lease.drain().await;
        lease.withdraw().await;
        stop.cancel();
        serving.await.unwrap();
    }

    /// Begins to stop, without a word to the registry.
    pub(crate) fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops without a word to the registry, and finishes what is in flight.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }

    /// Ends as a killed process does: connections break, the lease is left to run out.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        assert!(self.serving.await.unwrap_err().is_cancelled());
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's runtime ends its tasks")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(task)
}
