//! What is too large, too slow or too late; and how the edge leaves.

use std::time::Duration;
use std::time::Instant;

use proto::links::v1::CreateLinkRequest;
use proto::links::v1::Link;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic_types::StatusExt as _;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::frame;
use super::clients::request;
use super::world::World;

const BODY_BYTES_MAX: usize = 2_048;
const CREATE_LINK: &str = "/linkmesh.links.v1.LinksService/CreateLink";

fn status(answer: &Answer) -> tonic::Status {
    tonic::Status::from_header_map(&answer.headers).expect("a status in the headers")
}

fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_by_name_on_every_protocol() {
    let world = World::with(|config| config.body_bytes_max = BODY_BYTES_MAX).await;
    let bearer = world.bearer();
    let path = format!("{}/links", world.workspace());
    let text = "x".repeat(BODY_BYTES_MAX);
    let json = format!("{{\"displayName\":\"{text}\"}}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.send_body("POST", &path, &headers, json).await;
    assert_eq!(answer.problem(), (413, "BODY_TOO_LARGE".to_owned()));
    assert_eq!(answer.json()["metadata"]["bytes_max"], BODY_BYTES_MAX.to_string());

    let link = Some(Link { display_name: text, ..Link::default() });
    let message = frame(&CreateLinkRequest { link, ..CreateLinkRequest::default() });
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", content_type),
            ("te", "trailers"),
        ];
        let call = request("POST", &world.uri(CREATE_LINK), &headers, message.clone());
        let answer = Connection::http2(world.address).await.send(call).await;
        let status = status(&answer);
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{content_type}");
        assert_eq!(reason(&status), "BODY_TOO_LARGE");
        assert!(status.message().contains("2048"), "{status:?}");
    }
    assert!(world.doubles.state().calls.is_empty());
}

#[tokio::test]
async fn a_malformed_frame_is_refused_before_a_service_hears_of_it() {
    let world = World::start().await;
    let bearer = world.bearer();
    for content_type in ["application/grpc", "application/grpc-web"] {
        for body in [
            &b"\0\0"[..],
            b"\x07\0\0\0\0",
            b"\0\0\0\0\x09x",
            b"\0\0\0\0\x01xyz",
            b"\0\0\0\0\x03\xff\xff\xff",
        ] {
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", content_type),
                ("te", "trailers"),
            ];
            let call = request("POST", &world.uri(CREATE_LINK), &headers, body);
            let answer = Connection::http2(world.address).await.send(call).await;
            let status = status(&answer);
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{content_type} {body:?}");
            assert_eq!(reason(&status), "MALFORMED");
        }
    }
    assert!(world.doubles.state().calls.is_empty());
}

#[tokio::test]
async fn an_answer_may_be_larger_than_any_request() {
    let world = World::with(|config| config.body_bytes_max = BODY_BYTES_MAX).await;
    let bearer = world.bearer();
    let path = format!("{}/links/{}", world.workspace(), "x".repeat(2 * BODY_BYTES_MAX));
    let answer = world.send("GET", &path, &[("authorization", bearer.as_str())]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_deadline_is_kept_and_a_malformed_one_refused() {
    let world = World::start().await;
    world.doubles.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bearer = world.bearer();
    let path = format!("{}/links/lnk_1", world.workspace());
    let began = Instant::now();
    let headers = [("authorization", bearer.as_str()), ("x-server-timeout", "0.2")];
    let answer = world.send("GET", &path, &headers).await;
    assert_eq!(answer.problem(), (504, "DEADLINE_EXCEEDED".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(10));
    let headers = [("authorization", bearer.as_str()), ("x-server-timeout", "soon")];
    let answer = world.send("GET", &path, &headers).await;
    assert_eq!(answer.problem(), (400, "INVALID_FIELD".to_owned()));
    world.doubles.gate.add_permits(1_000);
}

#[tokio::test]
async fn who_says_nothing_or_half_a_head_or_half_a_preface_is_let_go() {
    let world = World::start().await;
    let mut silent = Vec::new();
    for start in [&b""[..], b"GET /sale HTTP/1.1\r\nhost: l.ex", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(world.address).await.expect("it listens");
        stream.write_all(start).await.expect("written");
        silent.push(stream);
    }
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is still open");
    }
}

#[tokio::test]
async fn connections_over_the_bound_wait_until_there_is_room() {
    let world = World::with(|config| config.connections_max = 2).await;
    let mut one = Connection::http1(world.address).await;
    let mut two = Connection::http1(world.address).await;
    for connection in [&mut one, &mut two] {
        assert_eq!(connection.send(request("GET", "/sale", &[], "")).await.status, 404);
    }
    let mut three = Connection::http1(world.address).await;
    let waiting = async { three.send(request("GET", "/sale", &[], "")).await.status };
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
    assert!(early.is_err(), "there is no room");
    drop(one);
    assert_eq!(waiting.await, 404);
}

#[tokio::test]
async fn a_stop_lets_calls_in_flight_finish_and_ships_the_spool() {
    let world = World::start().await;
    world.put("sale", 1, Some(super::world::route("https://shop.example")));
    assert_eq!(world.send("GET", "/sale", &[]).await.status, 302);
    world.doubles.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bearer = world.bearer();
    let path = format!("{}/links/lnk_1", world.workspace());
    let headers = [("authorization", bearer.as_str())];
    let uri = world.uri(&path);
    let (mut one, mut two) =
        (Connection::http1(world.address).await, Connection::http2(world.address).await);
    let calls = async {
        tokio::join!(
            one.send(request("GET", &path, &headers, "")),
            two.send(request("GET", &uri, &headers, ""))
        )
    };
    let stopping = async {
        world
            .eventually("both calls are in flight", async || world.doubles.state().calls.len() == 2)
            .await;
        world.stop.cancel();
        let refuses = async || TcpStream::connect(world.address).await.is_err();
        world.eventually("nobody else is let in", refuses).await;
        world.doubles.gate.add_permits(2);
    };
    let ((one, two), ()) = tokio::join!(calls, stopping);
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!(world.clicks(1).await.len(), 1);
    let stopped = world.stopped().await;
    assert!(stopped.is_ok(), "{stopped:?}");
}
