//! Descriptors from a file: services that the edge was not built with, and calls that go on while the file is replaced.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::frame;
use super::clients::messages;
use super::clients::request;
use super::widgets;
use super::widgets::ASKED;
use super::widgets::LOOK;
use super::widgets::Speaks;
use super::widgets::Widgets;
use super::widgets::descriptors;
use super::widgets::descriptors_with;
use super::world::World;

/// The file that the edge reads.
struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(set: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Self { path: folder.path().join("descriptors.binpb"), _folder: folder };
        file.replace(set);
        file
    }

    fn replace(&self, set: &[u8]) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, set).expect("written");
        std::fs::rename(&new, &self.path).expect("renamed");
    }
}

/// An edge that goes by a file, before these services, once it has found one.
async fn world(file: &File, others: &[(&'static str, Widgets)]) -> World {
    let path = file.path.clone();
    let world = World::beside(others, |config| config.descriptors_file = Some(path)).await;
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str())];
    let is_found = async || world.send("GET", "/v1/widgets/w", &headers).await.status == 200;
    world.eventually("the service is found", is_found).await;
    world
}

/// How many changes of the file came to this.
async fn reloads(world: &World, result: &str, reason: &str) -> Option<f64> {
    let labels = format!(r#"service="edge",result="{result}",reason="{reason}""#);
    world.metric(&format!("edge_descriptors_reloads_total{{{labels}}}")).await
}

/// How often each protocol calls: other tests have the same processor.
const CALL_EVERY: Duration = Duration::from_millis(5);

/// Calls one after another, each of which has to be answered right.
struct Load {
    /// Answers that called it so, by protocol.
    seen: Arc<[[AtomicUsize; 2]; 4]>,
    stop: CancellationToken,
    callers: JoinSet<()>,
}

impl Load {
    fn start(world: &World) -> Self {
        let seen: Arc<[[AtomicUsize; 2]; 4]> = Arc::default();
        let (stop, mut callers) = (CancellationToken::new(), JoinSet::new());
        for (place, speaks) in Speaks::ALL.into_iter().enumerate() {
            let (address, bearer) = (world.address, world.bearer());
            let (seen, stop) = (Arc::clone(&seen), stop.clone());
            callers.spawn(async move {
                let mut connection = Connection::http2(address).await;
                let mut pace = tokio::time::interval(CALL_EVERY);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while stop.run_until_cancelled(pace.tick()).await.is_some() {
                    let call = speaks.call(address, Some(&bearer), false);
                    let look = speaks.look(&connection.send(call).await);
                    let is_new = usize::from(look == Some("colour"));
                    seen[place][is_new].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { seen, stop, callers }
    }

    /// How many answers of each protocol called it so; those of protobuf call it nothing.
    fn counts(&self, is_new: bool) -> Vec<usize> {
        let counts = self.seen.iter().zip(Speaks::ALL).map(|(seen, speaks)| {
            let tells = matches!(speaks, Speaks::Rest | Speaks::Connect);
            seen[usize::from(is_new && tells)].load(Ordering::SeqCst)
        });
        counts.collect()
    }

    /// Waits until each protocol has been answered by what holds now, and sees that nothing is from then on by what held before.
    async fn goes_on(&self, world: &World, is_new: bool) {
        self.answers(world, is_new).await;
        let before = self.counts(!is_new);
        self.answers(world, is_new).await;
        // Of REST and Connect, which tell.
        assert_eq!(self.counts(!is_new)[..2], before[..2], "what held before is back");
    }

    async fn answers(&self, world: &World, is_new: bool) {
        let before = self.counts(is_new);
        let has_gone_on =
            async || self.counts(is_new).iter().zip(&before).all(|(now, then)| now > then);
        world.eventually("calls are answered by what holds now", has_gone_on).await;
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("every answer was right");
        }
    }
}

/// A stream that stays open.
struct Open {
    _connection: Connection,
    body: Incoming,
    read: Vec<u8>,
}

impl Open {
    async fn start(world: &World, speaks: Speaks) -> Self {
        let mut connection = Connection::http2(world.address).await;
        let call = speaks.call(world.address, Some(&world.bearer()), true);
        let response = connection.head(call).await;
        assert_eq!(response.status(), 200, "{speaks:?}");
        Self { _connection: connection, body: response.into_body(), read: Vec::new() }
    }

    /// Reads until so many widgets were told of.
    async fn tells(&mut self, widgets: usize) -> String {
        let reading = async {
            loop {
                let text = String::from_utf8_lossy(&self.read).into_owned();
                if text.matches(LOOK).count() >= widgets {
                    return text;
                }
                let frame = self.body.frame().await.expect("it is open").expect("it is whole");
                self.read.extend_from_slice(frame.data_ref().expect("no end"));
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("in time")
    }
}

/// The fault list, 9: under load no call is dropped, and each is answered by one contract or the other.
#[tokio::test]
async fn calls_and_streams_go_on_while_descriptors_are_replaced() {
    let (service, file) = (Widgets::new(), File::new(&descriptors("color")));
    let world = world(&file, &[("widgets", service.clone())]).await;
    service.told.send_replace(1);
    let mut streams = Vec::new();
    for speaks in Speaks::ALL {
        let mut stream = Open::start(&world, speaks).await;
        stream.tells(1).await;
        streams.push(stream);
    }
    let load = Load::start(&world);
    load.goes_on(&world, false).await;
    let mut used = 0.0;
    for field in ["colour", "color", "colour"] {
        file.replace(&descriptors(field));
        used += 1.0;
        let is_used = async || reloads(&world, "used", "").await == Some(used);
        world.eventually("the file is used", is_used).await;
        load.goes_on(&world, field == "colour").await;
        let document = world.send("GET", "/v1/openapi.json", &[]).await.json();
        let widget = document["components"]["schemas"]["Widget"]["properties"].to_string();
        assert!(widget.contains(&format!(r#""{field}""#)), "{widget}");
    }
    // Those that began before all this are told of more, as they were before.
    service.told.send_replace(2);
    for (stream, speaks) in streams.iter_mut().zip(Speaks::ALL) {
        let text = stream.tells(2).await;
        let is_json = matches!(speaks, Speaks::Rest | Speaks::Connect);
        let old = text.matches(r#""color":"green""#).count();
        assert_eq!((old, text.contains("colour")), (if is_json { 2 } else { 0 }, false), "{text}");
    }
    let mut new = Open::start(&world, Speaks::Rest).await;
    assert!(new.tells(2).await.contains("colour"));
    load.goes_on(&world, true).await;
    load.stop().await;
    assert_eq!(reloads(&world, "refused", "malformed").await, None);
    drop((streams, new));
    let stopped = world.stopped().await;
    assert!(stopped.is_ok(), "{stopped:?}");
}

#[tokio::test]
async fn descriptors_that_can_not_be_used_change_nothing_and_it_is_said_why() {
    let (service, good) = (Widgets::new(), descriptors("color"));
    let file = File::new(&good);
    let world = world(&file, &[("widgets", service)]).await;
    let tag = async || {
        let answer = world.send("GET", "/v1/openapi.json", &[]).await;
        answer.header("etag").expect("a tag").to_owned()
    };
    let before = tag().await;
    let watch = r#"get: "/v1/{name=widgets/*}:watch""#;
    let write = "option (linkmesh.common.v1.requires).permission = SCOPE_LINKS_WRITE;";
    for (set, reason) in [
        (good[..good.len() / 2].to_vec(), "malformed"),
        (descriptors_with(watch, r#"get: "/v1/{name=widgets/*}""#), "route_ambiguous"),
        (descriptors_with(write, ""), "requires_missing"),
        (descriptors_with("/v1/widgets", "/v1/openapi.json"), "own_path"),
    ] {
        file.replace(&set);
        let is_refused = async || reloads(&world, "refused", reason).await == Some(1.0);
        world.eventually(reason, is_refused).await;
        assert_eq!(tag().await, before, "{reason}");
        for speaks in Speaks::ALL {
            let call = speaks.call(world.address, Some(&world.bearer()), false);
            let answer = Connection::http2(world.address).await.send(call).await;
            assert_ne!(speaks.look(&answer), Some("colour"), "{reason}");
        }
    }
    file.replace(&descriptors("colour"));
    let is_used = async || reloads(&world, "used", "").await == Some(1.0);
    world.eventually("a good one is used again", is_used).await;
    assert_ne!(tag().await, before);
}

#[tokio::test]
async fn a_service_that_the_edge_was_not_built_with_is_served_in_every_protocol() {
    let (service, file) = (Widgets::new(), File::new(&descriptors("color")));
    let world = world(&file, &[("widgets", service.clone())]).await;
    for speaks in Speaks::ALL {
        let mut connection = Connection::http2(world.address).await;
        let call = speaks.call(world.address, Some(&world.bearer()), false);
        speaks.look(&connection.send(call).await);
        let principal = service.principal.lock().expect("no test panics with it").take();
        assert_eq!(principal.as_ref(), Some(&world.principal), "{speaks:?}");
        // Nobody is let in who proves nothing.
        let calls = service.calls.load(Ordering::SeqCst);
        let answer = connection.send(speaks.call(world.address, None, false)).await;
        let code = answer.headers.get("grpc-status").map(|code| code.as_bytes());
        assert!(answer.status == 401 || code == Some(b"16"), "{speaks:?}: {answer:?}");
        assert_eq!(service.calls.load(Ordering::SeqCst), calls, "{speaks:?}");
    }
    let asked = tonic_health::pb::HealthCheckRequest { service: Widgets::NAME.to_owned() };
    let typed = [("content-type", "application/grpc"), ("te", "trailers")];
    let check = request("POST", &world.uri("/grpc.health.v1.Health/Check"), &typed, frame(&asked));
    let answer = Connection::http2(world.address).await.send(check).await;
    let health = messages::<tonic_health::pb::HealthCheckResponse>(&answer.body);
    assert_eq!(health.first().map(|response| response.status), Some(1), "{answer:?}");

    let channel = tonic::transport::Endpoint::try_from(world.uri("")).expect("a URI");
    let channel = channel.connect().await.expect("it listens");
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(Widgets::NAME.to_owned())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = futures_util::stream::iter([question]);
    let answers = reflection.server_reflection_info(asked).await.expect("it is answered");
    let answer = answers.into_inner().message().await.expect("an answer").expect("one");
    let is_described =
        matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_)));
    assert!(is_described, "{answer:?}");
}

#[tokio::test]
async fn what_no_descriptor_declares_is_reachable_in_no_protocol() {
    let service = Widgets::new();
    let world = World::beside(&[("widgets", service.clone())], |_| ()).await;
    let bearer = world.bearer();
    for speaks in Speaks::ALL {
        let call = speaks.call(world.address, Some(&bearer), false);
        let answer = Connection::http2(world.address).await.send(call).await;
        let code = answer.headers.get("grpc-status").map(|code| code.as_bytes());
        assert!(answer.status == 404 || code == Some(b"12"), "{speaks:?}: {answer:?}");
    }
    assert_eq!(service.calls.load(Ordering::SeqCst), 0);
}

/// The mesh was not built with them either: what may be sent again is for their proto to say.
#[tokio::test]
async fn a_call_that_fails_is_repeated_if_its_proto_allows_that() {
    let (service, file) = (Widgets::new(), File::new(&descriptors("color")));
    let world = world(&file, &[("widgets", service.clone())]).await;
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for (method, path, body, status, calls) in [
        ("GET", "/v1/widgets/w", "", 200, 2),
        ("POST", widgets::GET, ASKED, 200, 2),
        ("POST", "/v1/widgets", ASKED, 503, 1),
        ("POST", widgets::CREATE, ASKED, 503, 1),
    ] {
        service.calls.store(0, Ordering::SeqCst);
        service.failures.store(1, Ordering::SeqCst);
        let answer = world.send_body(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        service.failures.store(0, Ordering::SeqCst);
        assert_eq!(service.calls.load(Ordering::SeqCst), calls, "{method} {path}");
    }
}

#[tokio::test]
async fn who_claims_a_service_that_descriptors_give_to_another_is_not_called() {
    let (service, other) = (Widgets::new(), Widgets::new());
    let file = File::new(&descriptors("color"));
    let others = [("widgets", service.clone()), ("claimant", other.clone())];
    let world = world(&file, &others).await;
    let all_known = async || {
        let call = Speaks::Rest.call(world.address, Some(&world.bearer()), false);
        Connection::http2(world.address).await.send(call).await;
        service.calls.load(Ordering::SeqCst) > 50
    };
    world.eventually("it is called often", all_known).await;
    assert_eq!(other.calls.load(Ordering::SeqCst), 0);
}
