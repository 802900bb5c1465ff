//! A client without a mesh, for the mesh's tests to fail on: tonic's balancing channel, which believes what the registry says.
//!
//! Its instances are those that are registered, neither more nor fewer; it connects to each at once, chooses at random, and sends
//! each call once, or some times in a row if it is told to repeat. The tests here put it where tests of the mesh put the mesh,
//! through the same code: what they hold is that those tests can fail.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::backend::spawn;
use crate::calls::calls_to_one_that_fails;
use crate::calls::calls_to_one_that_is_slow;
use crate::drain::Load;
use crate::drain::Method;
use crate::drain::kill;
use crate::network::CALLERS;
use crate::network::breaks;
use crate::network::swallow;
use crate::raw::Act;
use crate::raw::Raw;
use crate::retries::calls_to_a_service_that_fails;
use crate::warm_up::shares_of_a_newcomer;
use crate::world::World;
use crate::world::eventually;
use crate::world::registration;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use mesh::Registry;
use mesh::registry::Change;
use mesh::registry::Instance;
use mesh::registry::Update;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::Certificate;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use tonic::transport::channel::Change as Choice;
use tower::Service;

/// How long a call may take, the wait for an instance included.
const CALL_WAIT_MAX: Duration = Duration::from_secs(2);
/// How many changes may wait for the channel.
const CHANGES_MAX: usize = 64;

/// What calls are made with: a mesh, or a naive client.
pub(crate) trait Caller:
    GrpcService<
        Body,
        ResponseBody: http_body::Body<
            Data = Bytes,
            Error: Into<tonic::codegen::StdError> + Send,
        > + Send
                          + 'static,
        Error: Into<tonic::codegen::StdError> + Send,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Caller for T where
    T: GrpcService<
            Body,
            ResponseBody: http_body::Body<
                Data = Bytes,
                Error: Into<tonic::codegen::StdError> + Send,
            > + Send
                              + 'static,
            Error: Into<tonic::codegen::StdError> + Send,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A client of the instances of [`LINKS`].
#[derive(Clone)]
pub(crate) struct Naive {
    channel: Channel,
    /// How often it sends a call that is answered UNAVAILABLE.
    attempts_max: usize,
    _follows: Arc<AbortOnDropHandle<()>>,
}

impl Naive {
    /// A client that proves to be `edge`, and that its instances are `links`.
    pub(crate) fn start(world: &World) -> Self {
        Self::start_at(world, &world.registry)
    }

    /// The same, by another way to the registry.
    pub(crate) fn start_at(world: &World, registry: &Arc<dyn Registry>) -> Self {
        let pem = world.credentials("edge").pem();
        let tls = ClientTlsConfig::new()
            .domain_name("links.linkmesh.internal")
            .ca_certificate(Certificate::from_pem(pem.roots))
            .identity(tonic::transport::Identity::from_pem(pem.chain, pem.key));
        Self::follow(registry, Some(tls))
    }

    /// A client without TLS.
    pub(crate) fn plaintext(world: &World) -> Self {
        Self::follow(&world.registry, None)
    }

    pub(crate) fn repeating(mut self, attempts_max: usize) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    fn follow(registry: &Arc<dyn Registry>, tls: Option<ClientTlsConfig>) -> Self {
        let (channel, changes) = Channel::balance_channel(CHANGES_MAX);
        let mut watch = registry.watch();
        let follows = spawn(async move {
            let mut instances = Instances { tls, known: BTreeMap::new(), changes };
            while let Some(update) = watch.next().await {
                instances.take(update).await;
            }
        });
        let follows = Arc::new(AbortOnDropHandle::new(follows));
        Self { channel, attempts_max: 1, _follows: follows }
    }

    async fn send(mut self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut attempt = 1;
        loop {
            let again =
                http::Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
            let sent = tokio::time::timeout(CALL_WAIT_MAX, async {
                poll_fn(|context| GrpcService::poll_ready(&mut self.channel, context)).await?;
                GrpcService::call(&mut self.channel, again).await
            });
            let answer = match sent.await {
                Err(_) => Err(Status::deadline_exceeded("no answer in time")),
                Ok(Err(error)) => Err(Status::from_error(error.into())),
                Ok(Ok(response)) => Ok(response),
            };
            let code = match &answer {
                Err(status) => Some(status.code()),
                Ok(response) => {
                    Status::from_header_map(response.headers()).map(|status| status.code())
                }
            };
            if code != Some(Code::Unavailable) || attempt == self.attempts_max {
                return answer;
            }
            attempt += 1;
        }
    }
}

impl Service<http::Request<Body>> for Naive {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// Those that a channel balances over.
struct Instances {
    tls: Option<ClientTlsConfig>,
    /// Addresses by name.
    known: BTreeMap<String, String>,
    changes: mpsc::Sender<Choice<String, Endpoint>>,
}

impl Instances {
    async fn take(&mut self, update: Update) {
        match update {
            Update::Alive { .. } => {}
            Update::Listed { entries, .. } => {
                let ours: Vec<Instance> = entries
                    .into_iter()
                    .filter(|entry| entry.grpc_service == LINKS)
                    .map(|entry| entry.instance)
                    .collect();
                let gone =
                    self.known.keys().filter(|name| !ours.iter().any(|it| it.instance == **name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.delete(&name).await;
                }
                for instance in ours {
                    self.put(instance).await;
                }
            }
            Update::Changed { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(entry) if entry.grpc_service == LINKS => {
                            self.put(entry.instance).await;
                        }
                        Change::Delete { grpc_service, instance } if grpc_service == LINKS => {
                            self.delete(&instance).await;
                        }
                        Change::Put(_) | Change::Delete { .. } => {}
                    }
                }
            }
        }
    }

    async fn put(&mut self, Instance { instance, address, .. }: Instance) {
        if self.known.get(&instance) == Some(&address) {
            return;
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
        let endpoint = match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).unwrap(),
            None => endpoint,
        };
        self.known.insert(instance.clone(), address);
        // Without its channel, nobody is interested.
        self.changes.send(Choice::Insert(instance, endpoint)).await.ok();
    }

    async fn delete(&mut self, instance: &str) {
        self.known.remove(instance);
        self.changes.send(Choice::Remove(instance.to_owned())).await.ok();
    }
}

async fn get(caller: &impl Caller) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(caller.clone());
    client.get_link(GetLinkRequest::default()).await.map(|_| ())
}

/// Scenario 9.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_calling_one_that_fails_fast() {
    let calls = calls_to_one_that_fails(Naive::start).await;
    assert!(calls > 100, "{calls} of 500");
}

/// Scenario 9.
#[tokio::test(flavor = "multi_thread")]
async fn it_gives_one_that_is_slow_as_much_as_the_other() {
    let (fast, slow) = calls_to_one_that_is_slow(Naive::start).await;
    assert!(slow * 4 >= fast, "{slow} against {fast}");
}

/// Scenario 2: an instance that is lost while nobody can say so.
#[tokio::test(flavor = "multi_thread")]
async fn it_fails_calls_when_an_instance_is_killed() {
    let failures = kill(Naive::start).await;
    assert!(!failures.is_empty());
}

/// Scenario 10, its first half.
#[tokio::test(flavor = "multi_thread")]
async fn it_gives_a_newcomer_its_whole_share_at_once() {
    let shares = shares_of_a_newcomer(Naive::start, 1).await;
    assert!(shares[0] > 0.16, "{shares:?}");
}

/// Scenario 12.
#[tokio::test(flavor = "multi_thread")]
async fn it_buries_a_service_that_fails_under_its_repetitions() {
    let sent = calls_to_a_service_that_fails(|world| Naive::start(world).repeating(5)).await;
    assert!(!sent.is_within_budget(), "{sent:?}");
}

/// Scenario 13.
#[tokio::test]
async fn it_fails_what_was_provably_not_processed() {
    for act in [Act::RefuseOnce, Act::RefuseOnceAfterData, Act::GoAway] {
        let world = World::new();
        let raw = Raw::start(act).await;
        let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
        get(&Naive::plaintext(&world)).await.unwrap_err();
        assert_eq!(raw.calls(), 1, "{act:?}");
    }
}

/// Scenario 15.
#[tokio::test]
async fn it_waits_for_its_copies() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let shadows = world.beside();
    let _shadow = Backend::start(&shadows, "shadow-1", Behaviour::Hang).await;
    let (main, shadow) = (Naive::start(&world), Naive::start_at(&world, &shadows.registry));
    get(&main).await.unwrap();
    let copied = async { tokio::join!(get(&main), get(&shadow)) };
    tokio::time::timeout(Duration::from_secs(1), copied).await.unwrap_err();
}

/// Scenario 18.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_calling_one_that_is_swallowed() {
    let (_, failed) = swallow(Naive::start).await;
    assert!(failed.len() > 2 * CALLERS, "{}", failed.len());
}

/// Scenario 18.
#[tokio::test(flavor = "multi_thread")]
async fn it_fails_reads_when_connections_break() {
    let (reads, _) = breaks(Naive::start).await;
    assert!(!reads.is_empty());
}

/// All of it is a client that works, as long as nothing fails.
#[tokio::test(flavor = "multi_thread")]
async fn it_serves_as_long_as_nothing_fails() {
    let world = World::new();
    let backends = [
        Backend::start(&world, "links-1", Behaviour::Answer).await,
        Backend::start(&world, "links-2", Behaviour::Answer).await,
    ];
    let load = Load::start(&Naive::start(&world), Method::Create);
    eventually("calls to both", || async { backends.iter().all(|it| it.calls() > 100) }).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}
