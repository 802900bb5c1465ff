//! What an operator sees of calls, and what calls notice of it: nothing.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::chat::chat;
use crate::world::PATIENCE;
use crate::world::World;
use mesh::tap::Content;
use mesh::tap::Direction;
use mesh::tap::TapEvent;
use mesh::tap::TapFilter;
use mesh::tap::TapLimit;
use mesh::tap::TapStream;
use mesh::tap::Tapped;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use serde_json::json;
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::Request;
use tonic::codec::CompressionEncoding;

async fn next(tap: &mut TapStream) -> TapEvent {
    tokio::time::timeout(PATIENCE, tap.next()).await.expect("an event").expect("no end")
}

/// A call's events.
async fn whole_call(tap: &mut TapStream) -> Vec<Tapped> {
    let mut events = Vec::new();
    loop {
        let event = next(tap).await;
        let ended = matches!(event.what, Tapped::End(_));
        events.push(event.what);
        if ended {
            return events;
        }
    }
}

fn get(name: &str) -> Request<GetLinkRequest> {
    Request::new(GetLinkRequest { name: name.to_owned() })
}

#[tokio::test]
async fn a_call_is_seen_decoded_from_its_head_to_its_status() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut tap = backend.taps.open(TapFilter::default(), TapLimit::default()).unwrap();
    let mut request = get("links/a");
    request.set_timeout(Duration::from_secs(5));
    for (name, value) in [("x-team", "growth"), ("authorization", "Bearer hunter2")] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    LinksServiceClient::new(world.mesh("edge")).get_link(request).await.unwrap();

    let events = whole_call(&mut tap).await;
    let [Tapped::Begin(begin), Tapped::Message(asked), Tapped::Message(answered), Tapped::End(end)] =
        events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!((begin.caller.as_str(), begin.instance.as_str()), ("edge", "links-1"));
    assert_eq!(begin.method, "linkmesh.links.v1.LinksService/GetLink");
    let left = begin.time_left.unwrap();
    assert!(left > Duration::from_secs(3) && left <= Duration::from_secs(5), "{left:?}");
    assert!(begin.metadata.contains(&("x-team".to_owned(), "growth".to_owned())));
    assert!(!format!("{events:?}").contains("hunter2"));
    assert_eq!((asked.direction, asked.number), (Direction::Request, 1));
    assert_eq!(asked.content, Content::Json(json!({"name": "links/a"})));
    assert_eq!(answered.direction, Direction::Response);
    let link = json!({"link": {"displayName": "links-1", "destinationUri": "xxxxxxx"}});
    assert_eq!(answered.content, Content::Json(link));
    assert_eq!(end.code, Code::Ok);
    assert_eq!(end.request_bytes, asked.bytes + 5);
    assert!(end.latency > Duration::ZERO);
}

#[tokio::test]
async fn compressed_messages_are_read_too() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut tap = backend.taps.open(TapFilter::default(), TapLimit::default()).unwrap();
        let mut client = LinksServiceClient::new(world.mesh("edge"))
            .send_compressed(encoding)
            .accept_compressed(encoding);
        client.get_link(get("links/a")).await.unwrap();
        let events = whole_call(&mut tap).await;
        let contents: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Tapped::Message(message) => Some(&message.content),
                Tapped::Begin(_) | Tapped::End(_) => None,
            })
            .collect();
        assert_eq!(contents[0], &Content::Json(json!({"name": "links/a"})), "{encoding:?}");
        assert!(matches!(contents[1], Content::Json(_)), "{contents:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_refused_is_seen_with_why() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut tap = backend.taps.open(TapFilter::default(), TapLimit::default()).unwrap();
    let mut client = LinksServiceClient::new(world.mesh("billing"));
    client.get_link(get("links/a")).await.unwrap_err();
    let events = whole_call(&mut tap).await;
    let [Tapped::Begin(begin), Tapped::End(end)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((begin.caller.as_str(), end.code), ("billing", Code::PermissionDenied));
    assert!(end.message.contains("`billing`"), "{}", end.message);
}

#[tokio::test]
async fn a_filter_by_code_shows_only_calls_that_end_so_and_all_of_them() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let filter = TapFilter { code: Some(Code::NotFound), ..TapFilter::default() };
    let mut tap = backend.taps.open(filter, TapLimit::default()).unwrap();
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    client.get_link(get("links/well")).await.unwrap();
    backend.behave(Behaviour::Fail(Code::NotFound));
    client.get_link(get("links/ill")).await.unwrap_err();
    let events = whole_call(&mut tap).await;
    let [Tapped::Begin(_), Tapped::Message(asked), Tapped::End(end)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(asked.content, Content::Json(json!({"name": "links/ill"})));
    assert_eq!((end.code, end.message.as_str()), (Code::NotFound, "as the test says"));
}

#[tokio::test]
async fn a_stream_s_messages_are_seen_as_they_pass() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut tap = backend.taps.open(TapFilter::default(), TapLimit::default()).unwrap();
    let (sender, messages) = tokio::sync::mpsc::channel(4);
    let mesh = world.mesh("edge");
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = chat(&mesh, messages).await.unwrap();
    assert!(matches!(next(&mut tap).await.what, Tapped::Begin(_)));
    for number in 1..=3 {
        sender.send(GetLinkRequest::default()).await.unwrap();
        answers.message().await.unwrap().unwrap();
        for direction in [Direction::Request, Direction::Response] {
            let event = next(&mut tap).await;
            let Tapped::Message(message) = event.what else { panic!("{event:?}") };
            assert_eq!((message.direction, message.number), (direction, number));
            // No descriptor knows this service.
            assert!(matches!(message.content, Content::Omitted(_)));
        }
    }
    drop((sender, answers));
    let end = next(&mut tap).await;
    assert!(matches!(end.what, Tapped::End(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_delays_no_call_and_is_told_what_it_missed() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let limit = TapLimit { events_per_second: 1_000, ..TapLimit::default() };
    let mut tap = backend.taps.open(TapFilter::default(), limit).unwrap();
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    for _ in 0..400 {
        client.get_link(get("links/a")).await.unwrap();
    }
    let event = next(&mut tap).await;
    assert!(event.dropped > 300, "{}", event.dropped);
    assert_eq!(backend.calls(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_shown_in_a_second_than_was_asked_for() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let limit = TapLimit { events_per_second: 10, ..TapLimit::default() };
    let mut tap = backend.taps.open(TapFilter::default(), limit).unwrap();
    let started = std::time::Instant::now();
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    for _ in 0..100 {
        client.get_link(get("links/a")).await.unwrap();
    }
    let mut shown = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), tap.next()).await {
        shown += 1;
        assert!(event.dropped > 0 || shown <= 10);
    }
    let allowed = 11 + started.elapsed().as_secs() * 10 + 10;
    assert!(shown <= allowed, "{shown} of at most {allowed}");
}

#[tokio::test]
async fn taps_are_bounded_and_a_closed_one_makes_room() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let open = || backend.taps.open(TapFilter::default(), TapLimit::default());
    let mut taps: Vec<_> = (0..mesh::tap::TAPS_MAX).map(|_| open().unwrap()).collect();
    let refused = open().unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    taps.pop();
    taps.push(open().unwrap());
    LinksServiceClient::new(world.mesh("edge")).get_link(get("links/a")).await.unwrap();
    for tap in &mut taps {
        assert_eq!(whole_call(tap).await.len(), 4);
    }
}
