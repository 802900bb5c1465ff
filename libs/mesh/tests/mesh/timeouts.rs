//! How long a policy lets a call, an attempt and a silence last.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::spawn;
use crate::chat::chat;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::Request;

fn get_within(timeout: Duration) -> Request<GetLinkRequest> {
    let mut request = Request::new(GetLinkRequest::default());
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn a_route_says_how_long_its_methods_may_take() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "get", "timeout": "0.5s",
        "matches": [{"method": "linkmesh.links.v1.LinksService/GetLink"}]}]}"#;
    world.obey(&mesh, policy).await;
    let mut client = LinksServiceClient::new(mesh);
    let left = || backend.seen().time_left.unwrap();

    client.get_link(GetLinkRequest::default()).await.unwrap();
    assert!(left() <= Duration::from_millis(500), "{:?}", left());
    client.get_link(get_within(Duration::from_secs(60))).await.unwrap();
    assert!(left() <= Duration::from_millis(500), "no caller gets more: {:?}", left());
    client.get_link(get_within(Duration::from_millis(300))).await.unwrap();
    assert!(left() <= Duration::from_millis(300), "but less: {:?}", left());
    client.create_link(CreateLinkRequest::default()).await.unwrap();
    assert!(left() > Duration::from_secs(5), "another method: {:?}", left());

    backend.behave(Behaviour::Hang);
    let started = Instant::now();
    let error = client.get_link(GetLinkRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cancelled_and_made_elsewhere() {
    let world = World::new();
    let good = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let hangs = Backend::start(&world, "links-2", Behaviour::Hang).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all", "retry": {"per_try_timeout": "0.2s"}}]}"#;
    world.obey(&mesh, policy).await;
    let mut client = LinksServiceClient::new(mesh);
    for _ in 0..20 {
        client.get_link(GetLinkRequest::default()).await.unwrap();
    }
    assert_eq!(good.calls(), 20);
    assert!(hangs.calls() >= 1, "it was tried");
    eventually("the handlers' end", || async { hangs.under_way() == 0 }).await;
    assert!(hangs.calls() <= 5, "and counts as slow: {}", hangs.calls());
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_the_last_if_the_method_may_not_be_repeated() {
    let world = World::new();
    let hangs = Backend::start(&world, "links-1", Behaviour::Hang).await;
    let _good = Backend::unregistered(&world, "links", "links-2", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let policy = r#"{"routes": [{"name": "all", "retry": {"per_try_timeout": "0.2s"}}]}"#;
    world.obey(&mesh, policy).await;
    let mut client = LinksServiceClient::new(mesh);
    let error = client.create_link(CreateLinkRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().contains("one attempt"), "{}", error.message());
    assert_eq!(hangs.calls(), 1);
    eventually("the handler's end", || async { hangs.under_way() == 0 }).await;
}

#[tokio::test]
async fn a_stream_may_be_long_but_not_silent() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    world.obey(&mesh, r#"{"routes": [{"name": "all", "idle_timeout": "0.4s"}]}"#).await;
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = chat(&mesh, messages).await.unwrap();
    let started = Instant::now();
    let talking = spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while started.elapsed() < Duration::from_millis(1_200) {
            ticks.tick().await;
            send.send(GetLinkRequest::default()).await.unwrap();
        }
        send
    });
    let error = loop {
        match answers.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let _send = talking.await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(1_200), "{:?}", started.elapsed());
    assert_eq!((error.code(), reason(&error).as_str()), (Code::DeadlineExceeded, "STREAM_IDLE"));
    eventually("the call's end", || async { mesh.view().endpoints[0].pending == 0 }).await;
}

#[tokio::test]
async fn a_wait_that_would_outlast_the_deadline_is_not_begun() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::PushBack("5000")).await;
    let mesh = world.mesh("edge");
    let policy =
        r#"{"routes": [{"name": "all", "retry": {"backoff_min": "10s", "backoff_max": "10s"}}]}"#;
    world.obey(&mesh, policy).await;
    let mut client = LinksServiceClient::new(mesh);
    let started = Instant::now();
    // What the server asks for is longer than the call has.
    let error = client.get_link(get_within(Duration::from_secs(4))).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "as the test says"));
    assert_eq!(backend.calls(), 1);
    // And so is the backoff, mostly; the answer is the server's, never that the deadline passed.
    backend.behave(Behaviour::Fail(Code::Unavailable));
    let error = client.get_link(get_within(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "as the test says"));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
