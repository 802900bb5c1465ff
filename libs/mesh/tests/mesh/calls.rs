//! Calls that go well, and how long they may take.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::backend::spawn;
use crate::chat::chat;
use crate::naive::Caller;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use crate::world::registration;
use futures_util::future::join_all;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use rpc::Deadline;
use std::time::Duration;
use std::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::Request;

fn get(name: &str) -> GetLinkRequest {
    GetLinkRequest { name: name.to_owned() }
}

#[tokio::test]
async fn a_call_finds_its_service_by_its_path() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut metrics = Metrics::default();
    let mesh = world.mesh_with(world.identity("edge"), None, &mut metrics);
    let mut client = LinksServiceClient::new(mesh.clone());
    let answer = client.get_link(get("x")).await.unwrap().into_inner();
    assert_eq!(answer.link.unwrap().display_name, "links-1");
    assert_eq!(backend.seen().peer.unwrap().service.as_str(), "edge");

    let view = mesh.view();
    assert_eq!(view.endpoints.len(), 1);
    assert_eq!(view.endpoints[0].instance.instance, "links-1");
    assert!(view.endpoints[0].grpc_services.contains(&LINKS.to_owned()));
    assert!(view.endpoints[0].latency.is_some() && view.age.is_some() && view.revision > 0);
    assert_eq!(view.endpoints[0].pending, 0);
    let mut page = String::new();
    encode(&mut page, &metrics).unwrap();
    let line = r#"mesh_requests_total{caller="edge",callee="links",method="linkmesh.links.v1.LinksService/GetLink",code="Ok"} 1"#;
    assert!(page.contains(line), "{page}");

    mesh.close().await;
    let error = client.get_link(get("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_the_caller_sends_along_arrives() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let mut request = Request::new(get("x"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    client.get_link(request).await.unwrap();
    assert_eq!(backend.seen().metadata.get("traceparent").unwrap(), trace);
}

#[tokio::test]
async fn large_messages_pass_in_both_directions() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client =
        LinksServiceClient::new(world.mesh("edge")).max_decoding_message_size(16 << 20);
    // The second one is more than is kept to be sent again.
    for size in [3 << 20, 6 << 20] {
        let answer = client.get_link(get(&"x".repeat(size))).await.unwrap().into_inner();
        assert_eq!(answer.link.unwrap().destination_uri.len(), size);
    }
}

#[tokio::test]
async fn streams_flow_in_both_directions_beyond_the_windows() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let messages = (0..400).map(|number| get(&format!("{number:060000}")));
    let mut answers = chat(&mesh, tokio_stream::iter(messages)).await.unwrap();
    let mut count = 0;
    while let Some(answer) = answers.next().await {
        assert_eq!(answer.unwrap().name, format!("{count:060000}"));
        count += 1;
    }
    assert_eq!(count, 400);
    eventually("the call's end", || async { mesh.view().endpoints[0].pending == 0 }).await;
}

#[tokio::test]
async fn a_stream_outlives_the_client_that_began_it() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = chat(&world.mesh("edge"), messages).await.unwrap();
    for number in 0..3 {
        send.send(get(&number.to_string())).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().name, number.to_string());
    }
    drop(send);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_stream_goes_on_after_its_server_has_said_goaway() {
    let world = World::new();
    let leaves = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = chat(&mesh, messages).await.unwrap();
    send.send(get("before")).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().name, "before");
    let leaving = spawn(leaves.leave());
    let stays = Backend::start(&world, "links-2", Behaviour::Answer).await;
    eventually("its withdrawal", || async {
        let endpoints = mesh.view().endpoints;
        endpoints.len() == 1 && endpoints[0].instance.instance == "links-2"
    })
    .await;
    let mut client = LinksServiceClient::new(mesh);
    client.get_link(get("x")).await.unwrap();
    assert_eq!(stays.calls(), 1, "new calls go elsewhere");
    for number in 0..3 {
        send.send(get(&number.to_string())).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().name, number.to_string());
    }
    drop(send);
    assert!(answers.next().await.is_none());
    leaving.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_its_place_back() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let messages = tokio_stream::once(get("x")).chain(tokio_stream::pending());
    let mut answers = chat(&mesh, messages).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().name, "x");
    assert_eq!(mesh.view().endpoints[0].pending, 1);
    drop(answers);
    eventually("the call's end", || async { mesh.view().endpoints[0].pending == 0 }).await;
}

#[tokio::test]
async fn more_calls_than_a_connection_has_streams_use_more_connections() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let streams = (0..1_500).map(|_| async {
        let messages = tokio_stream::once(get("x")).chain(tokio_stream::pending());
        let mut answers = chat(&mesh, messages).await?;
        let first = answers.message().await?;
        // Held until all have been answered.
        Ok::<_, tonic::Status>((answers, first))
    });
    let open = join_all(streams).await;
    for answer in &open {
        assert!(answer.as_ref().unwrap().1.is_some());
    }
    assert_eq!(mesh.view().endpoints[0].pending, 1_500);
}

#[tokio::test]
async fn an_instance_that_has_too_much_to_do_refuses_what_is_too_much_at_once() {
    let world = World::new();
    let behaviour = Behaviour::AnswerAfter(Duration::from_secs(1));
    let backend = Backend::start(&world, "links-1", behaviour).await;
    let client = LinksServiceClient::new(world.mesh("edge"));
    let calls = (0..1_500).map(|_| {
        let mut client = client.clone();
        async move { client.get_link(get("x")).await.map(|_| ()) }
    });
    let answers = join_all(calls).await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    // Nine tenths of 1,024 are for what is of normal criticality.
    assert_eq!((backend.calls(), refused.len()), (922, 1_500 - 922));
    let refused = refused[0];
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn a_unary_call_has_a_deadline_though_its_caller_names_none() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    client.get_link(get("x")).await.unwrap();
    let left = backend.seen().time_left.unwrap();
    assert!(left > Duration::from_secs(5) && left <= Duration::from_secs(10), "{left:?}");
}

#[tokio::test]
async fn the_earlier_of_two_deadlines_travels_with_the_call() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let mut request = Request::new(get("x"));
    request.set_timeout(Duration::from_secs(60));
    // As in a handler that calls on with the deadline of its own call.
    request.extensions_mut().insert(Deadline(Instant::now() + Duration::from_secs(30)));
    client.get_link(request).await.unwrap();
    let left = backend.seen().time_left.unwrap();
    assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30), "{left:?}");
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline() {
    let world = World::new();
    let _backend = Backend::start(&world, "links-1", Behaviour::Hang).await;
    let mesh = world.mesh("edge");
    let mut client = LinksServiceClient::new(mesh.clone());
    let mut request = Request::new(get("x"));
    request.set_timeout(Duration::from_millis(300));
    let started = Instant::now();
    let error = client.get_link(request).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(started.elapsed() >= Duration::from_millis(300));
    eventually("its place", || async { mesh.view().endpoints[0].pending == 0 }).await;
}

#[tokio::test]
async fn a_call_that_is_late_already_is_not_sent() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    client.get_link(get("x")).await.unwrap();
    let mut request = Request::new(get("x"));
    request.extensions_mut().insert(Deadline(Instant::now()));
    let error = client.get_link(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_malformed_timeout_is_refused_by_name() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let mut request = Request::new(get("x"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let error = client.get_link(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert!(error.message().contains("grpc-timeout"), "{}", error.message());
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn a_call_waits_for_an_instance_that_is_about_to_come() {
    let world = World::new();
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let calling = spawn(async move { client.get_link(get("x")).await });
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_an_instance_a_call_says_so() {
    let world = World::new();
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let error = client.get_link(get("x")).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_ENDPOINT"));
    // One that is known and not there.
    let _lease = world.registry.register(registration("links-1", "127.0.0.1:1", &[LINKS]));
    let error = client.get_link(get("x")).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_ENDPOINT"));
}

/// How many of 500 calls go to the one of three that fails them.
pub(crate) async fn calls_to_one_that_fails<C: Caller>(caller: impl FnOnce(&World) -> C) -> usize {
    let world = World::new();
    let good = [
        Backend::start(&world, "links-1", Behaviour::Answer).await,
        Backend::start(&world, "links-2", Behaviour::Answer).await,
    ];
    let bad = Backend::start(&world, "links-3", Behaviour::Fail(Code::Internal)).await;
    let mut client = LinksServiceClient::new(caller(&world));
    for _ in 0..500 {
        client.create_link(CreateLinkRequest::default()).await.ok();
    }
    assert_eq!(good[0].calls() + good[1].calls() + bad.calls(), 500);
    bad.calls()
}

#[tokio::test]
async fn an_endpoint_that_fails_fast_is_avoided() {
    let calls = calls_to_one_that_fails(|world| world.mesh("edge")).await;
    assert!(calls < 25, "{calls} of 500 calls went to the one that fails");
}

/// How many of 400 calls, eight at a time, go to an instance that is fast, and to one that is slow.
pub(crate) async fn calls_to_one_that_is_slow<C: Caller>(
    caller: impl FnOnce(&World) -> C,
) -> (usize, usize) {
    let world = World::new();
    let fast = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let slow =
        Backend::start(&world, "links-2", Behaviour::AnswerAfter(Duration::from_millis(200))).await;
    let client = LinksServiceClient::new(caller(&world));
    let callers = (0..8).map(|_| {
        let mut client = client.clone();
        async move {
            for _ in 0..50 {
                client.get_link(get("x")).await.unwrap();
            }
        }
    });
    join_all(callers).await;
    (fast.calls(), slow.calls())
}

#[tokio::test]
async fn an_endpoint_that_is_slow_gets_less() {
    let (fast, slow) = calls_to_one_that_is_slow(|world| world.mesh("edge")).await;
    assert!(slow * 4 < fast, "{slow} against {fast}");
}
