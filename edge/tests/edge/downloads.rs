//! `google.api.HttpBody` by REST: a service's bytes as they come, and an end that is no success.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tonic::Status;

use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::request;
use super::streaming::End;
use super::streaming::HttpBody;
use super::world::World;

const PATH: &str = "/v1/files/f";

fn part(content_type: &str, data: &'static [u8]) -> Result<HttpBody, Status> {
    Ok(HttpBody { content_type: content_type.to_owned(), data: Bytes::from_static(data) })
}

async fn connection(world: &World, is_http2: bool) -> (Connection, String) {
    if is_http2 {
        (Connection::http2(world.address).await, world.uri(PATH))
    } else {
        (Connection::http1(world.address).await, PATH.to_owned())
    }
}

#[tokio::test]
async fn bytes_come_as_the_service_says_them_under_the_first_ones_type() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        world.streams.told().download =
            vec![part("image/png", b""), part("", b"\x89P"), part("text/html", b"NG\0")];
        let (mut connection, uri) = connection(&world, is_http2).await;
        let answer = connection.send(request("GET", &uri, &[], "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("image/png"));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache, no-transform"));
        assert_eq!(&answer.body[..], b"\x89PNG\0");
    }
    world.streams.told().download = vec![];
    let answer = world.send("GET", PATH, &[]).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
}

#[tokio::test]
async fn what_has_come_is_not_held_back() {
    let world = World::streaming(|_| ()).await;
    world.streams.told().download_lasts = true;
    for is_http2 in [false, true] {
        world.streams.told().calls.clear();
        world.streams.told().download = vec![part("text/plain", b"first")];
        let (mut connection, uri) = connection(&world, is_http2).await;
        let mut body = connection.head(request("GET", &uri, &[], "")).await.into_body();
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time");
        let frame = frame.expect("a part").expect("whole");
        assert_eq!(frame.into_data().expect("data"), "first");
        assert_eq!(world.streams.end(), None);
        drop((body, connection));
        let reset = async || world.streams.end() == Some(End::Broken);
        world.eventually("a client that leaves resets its call", reset).await;
    }
}

/// Reads what comes before a body breaks off, and how it does; `meanwhile` once something has come.
async fn broken_off(mut body: Incoming, meanwhile: impl Fn()) -> (Vec<u8>, hyper::Error) {
    let mut read = Vec::new();
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time");
        match frame.expect("never a clean end") {
            Ok(frame) => read.extend_from_slice(frame.data_ref().expect("data")),
            Err(error) => return (read, error),
        }
        meanwhile();
    }
}

/// Whether HTTP/1.1 closed without a last chunk.
fn ends_within_chunks(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|error| error.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

#[tokio::test]
async fn r29_an_error_before_the_first_byte_is_said_and_a_later_one_breaks_off() {
    let world = World::streaming(|_| ()).await;
    let failures = &world.streams.failures;
    for is_http2 in [false, true] {
        world.streams.told().download = vec![Err(Status::not_found("no such file"))];
        failures.add_permits(1);
        let (mut connection, uri) = connection(&world, is_http2).await;
        let answer = connection.send(request("GET", &uri, &[], "")).await;
        assert_eq!(answer.problem().0, 404);

        world.streams.told().download =
            vec![part("text/plain", b"half"), Err(Status::data_loss("it is gone"))];
        let response = connection.head(request("GET", &uri, &[], "")).await;
        assert_eq!(response.status(), 200);
        let (read, error) = broken_off(response.into_body(), || failures.add_permits(1)).await;
        assert_eq!(read, b"half");
        if is_http2 {
            let reset = std::error::Error::source(&error);
            let reset = reset.and_then(|error| error.downcast_ref::<h2::Error>());
            assert!(reset.is_some_and(h2::Error::is_reset), "{error:?}");
        } else {
            assert!(ends_within_chunks(&error), "{error:?}");
        }
    }
}

/// Over HTTP/1.1 what came before the error gets out, if only the client takes it.
#[tokio::test]
async fn r29_an_error_at_once_keeps_nothing_back_that_came_before() {
    let world = World::streaming(|_| ()).await;
    world.streams.failures.add_permits(1);
    world.streams.told().download =
        vec![part("text/plain", b"half"), Err(Status::data_loss("it is gone"))];
    let (mut connection, uri) = connection(&world, false).await;
    let response = connection.head(request("GET", &uri, &[], "")).await;
    assert_eq!(response.status(), 200);
    let (read, error) = broken_off(response.into_body(), || ()).await;
    assert_eq!(read, b"half");
    assert!(ends_within_chunks(&error), "{error:?}");
}
