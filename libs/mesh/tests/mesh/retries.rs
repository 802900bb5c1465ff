//! What is sent again and what is not.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::CHAT;
use crate::backend::LINKS;
use crate::backend::spawn;
use crate::chat::chat;
use crate::naive::Caller;
use crate::raw::Act;
use crate::raw::Raw;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use crate::world::registration;
use mesh::Identity;
use mesh::Mesh;
use prost_reflect::prost::Message as _;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

async fn get(caller: &impl Caller) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(caller.clone());
    client.get_link(GetLinkRequest::default()).await.map(|_| ())
}

async fn create(mesh: &Mesh) -> Result<(), Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.create_link(CreateLinkRequest::default()).await.map(|_| ())
}

fn plaintext(world: &World) -> Mesh {
    let identity = Identity::plaintext_for_bench("edge").unwrap();
    world.mesh_with(identity, None, &mut Default::default())
}

#[tokio::test]
async fn a_method_that_may_be_repeated_is_tried_on_another_endpoint() {
    let world = World::new();
    let good = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let bad = Backend::start(&world, "links-2", Behaviour::Fail(Code::Unavailable)).await;
    let mesh = world.mesh("edge");
    for _ in 0..20 {
        get(&mesh).await.unwrap();
    }
    assert_eq!(good.calls(), 20);
    assert!(bad.calls() <= 20, "each call tries it once at most: {}", bad.calls());
}

#[tokio::test]
async fn a_method_that_may_not_be_repeated_is_sent_once() {
    let world = World::new();
    let bad = Backend::start(&world, "links-1", Behaviour::Fail(Code::Unavailable)).await;
    let mesh = world.mesh("edge");
    let error = create(&mesh).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "as the test says"));
    assert_eq!(bad.calls(), 1);
}

#[tokio::test]
async fn only_unavailable_is_tried_again_and_at_most_five_times() {
    let world = World::new();
    let bad = Backend::start(&world, "links-1", Behaviour::Fail(Code::Internal)).await;
    let mesh = world.mesh("edge");
    bad.behave(Behaviour::Fail(Code::Unavailable));
    assert_eq!(get(&mesh).await.unwrap_err().message(), "as the test says");
    assert_eq!(bad.calls(), 5);
    for code in [Code::Internal, Code::NotFound, Code::ResourceExhausted, Code::Aborted] {
        bad.behave(Behaviour::Fail(code));
        assert_eq!(get(&mesh).await.unwrap_err().code(), code);
    }
    assert_eq!(bad.calls(), 5 + 4);
}

/// What became of calls.
#[derive(Debug)]
pub(crate) struct Sent {
    calls: usize,
    /// How many arrived.
    arrived: usize,
    elapsed: Duration,
}

impl Sent {
    /// Whether those that arrived are no more than 20 % and 10 a second more, of which 10 seconds are there at the start.
    pub(crate) fn is_within_budget(&self) -> bool {
        let seconds = usize::try_from(self.elapsed.as_secs()).expect("a test is short") + 10;
        self.arrived <= self.calls + self.calls / 5 + 10 * (seconds + 1)
    }
}

/// Sends a thousand calls to a service that fails all of them.
pub(crate) async fn calls_to_a_service_that_fails<C: Caller>(
    caller: impl FnOnce(&World) -> C,
) -> Sent {
    let world = World::new();
    let bad = [
        Backend::start(&world, "links-1", Behaviour::Fail(Code::Unavailable)).await,
        Backend::start(&world, "links-2", Behaviour::Fail(Code::Unavailable)).await,
    ];
    let caller = caller(&world);
    let calls = 1_000;
    let callers = (0..20).map(|_| async {
        for _ in 0..calls / 20 {
            get(&caller).await.unwrap_err();
        }
    });
    let started = Instant::now();
    futures_util::future::join_all(callers).await;
    let arrived = bad.iter().map(Backend::calls).sum();
    Sent { calls, arrived, elapsed: started.elapsed() }
}

#[tokio::test]
async fn a_service_that_fails_is_not_buried_under_retries() {
    let sent = calls_to_a_service_that_fails(|world| world.mesh("edge")).await;
    assert!(sent.is_within_budget(), "{sent:?}");
    assert!(sent.arrived > sent.calls, "and some are sent again: {sent:?}");
}

#[tokio::test]
async fn what_was_provably_not_processed_is_sent_again_whatever_it_is() {
    for act in [Act::Refuse, Act::GoAway] {
        let world = World::new();
        let raw = Raw::start(act).await;
        let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
        let mesh = plaintext(&world);
        let error = create(&mesh).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(raw.calls(), 5, "{act:?}");
    }
}

#[tokio::test]
async fn after_a_lost_connection_only_what_may_be_repeated_is_sent_again() {
    let world = World::new();
    let raw = Raw::start(Act::Close).await;
    let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
    let mesh = plaintext(&world);
    let error = create(&mesh).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "OUTCOME_UNKNOWN"));
    assert!(error.message().contains("the outcome is unknown"), "{}", error.message());
    assert!(!error.message().contains("links-1"), "no instance is named: {}", error.message());
    assert_eq!(raw.calls(), 1);
    // Sent again until five of five calls have failed, each on a connection of its own: then the only instance is unhealthy.
    let error = get(&mesh).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "ALL_UNHEALTHY"));
    assert_eq!(raw.calls(), 1 + 4);
}

#[tokio::test]
async fn a_call_in_flight_to_a_killed_instance_says_that_its_outcome_is_unknown() {
    let world = World::new();
    let killed = Backend::start(&world, "links-1", Behaviour::Hang).await;
    let mesh = world.mesh("edge");
    let calling = spawn(async move { create(&mesh).await });
    eventually("the call", || async { killed.calls() == 1 }).await;
    // Another one is there, and must not get the call.
    let other = Backend::start(&world, "links-2", Behaviour::Answer).await;
    killed.kill().await;
    let error = calling.await.unwrap().unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "OUTCOME_UNKNOWN"));
    assert_eq!(other.calls(), 0);
}

#[tokio::test]
async fn whatever_a_call_fails_with_has_a_reason() {
    for (act, code, expected) in [
        (Act::Cancel, Code::Cancelled, "CANCELLED"),
        (Act::Forbid, Code::PermissionDenied, "PEER_NOT_GRPC"),
    ] {
        let world = World::new();
        let raw = Raw::start(act).await;
        let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
        let error = get(&plaintext(&world)).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (code, expected));
        assert!(!error.message().contains("links-1"), "{}", error.message());
        assert_eq!(raw.calls(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn a_large_message_is_sent_again_whole() {
    for act in [Act::RefuseOnce, Act::RefuseOnceAfterData] {
        let world = World::new();
        let raw = Raw::start(act).await;
        let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
        let mut client = LinksServiceClient::new(plaintext(&world));
        let request = GetLinkRequest { name: "x".repeat(3 << 20) };
        let size = request.encoded_len() + 5;
        client.get_link(request).await.unwrap();
        assert_eq!((raw.calls(), raw.received()), (2, size), "{act:?}");
    }
}

#[tokio::test]
async fn a_stream_is_sent_again_only_if_nothing_of_it_was_read() {
    let world = World::new();
    let raw = Raw::start(Act::RefuseOnce).await;
    let _lease = world.registry.register(registration("links-1", &raw.address, &[CHAT]));
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mesh = plaintext(&world);
    let calling = async {
        let mut answers = chat(&mesh, messages).await.unwrap();
        assert!(answers.message().await.unwrap().is_some());
    };
    let talking = async {
        eventually("the second attempt", || async { raw.calls() == 2 }).await;
        send.send(GetLinkRequest::default()).await.unwrap();
        drop(send);
    };
    tokio::join!(calling, talking);
    assert_eq!(raw.received(), 5);

    let raw = Raw::start(Act::RefuseOnceAfterData).await;
    let world = World::new();
    let _lease = world.registry.register(registration("links-1", &raw.address, &[CHAT]));
    let messages = tokio_stream::iter([GetLinkRequest::default()]);
    let error = chat(&plaintext(&world), messages).await.unwrap_err();
    assert_eq!((error.code(), raw.calls()), (Code::Unavailable, 1));
}

#[tokio::test]
async fn a_server_says_when_it_wants_to_be_asked_again() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::PushBack("200")).await;
    let mesh = world.mesh("edge");
    let started = Instant::now();
    assert_eq!(get(&mesh).await.unwrap_err().message(), "as the test says");
    assert_eq!(backend.calls(), 5);
    assert!(started.elapsed() >= Duration::from_millis(4 * 200));
}

#[tokio::test]
async fn a_policy_says_after_which_codes_and_how_often() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Fail(Code::Aborted)).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all", "retry": {"attempts_max": 3, "codes": ["ABORTED"],
        "backoff_min": "0.001s", "backoff_max": "0.002s"}}]}"#;
    world.obey(&mesh, policy).await;
    assert_eq!(get(&mesh).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(backend.calls(), 3);
    assert_eq!(create(&mesh).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(backend.calls(), 3 + 1);
    backend.behave(Behaviour::Fail(Code::Unavailable));
    assert_eq!(get(&mesh).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(backend.calls(), 3 + 1 + 1);
}

#[tokio::test]
async fn a_server_that_asks_not_to_be_tried_again_is_not() {
    let world = World::new();
    let raw = Raw::start(Act::Unavailable).await;
    let _lease = world.registry.register(registration("links-1", &raw.address, &[LINKS]));
    assert_eq!(get(&plaintext(&world)).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(raw.calls(), 1);
}
