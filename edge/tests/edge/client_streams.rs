//! A client's stream by REST: what its service hears, and when; what both hear of a stream that is no good; and of one that nobody
//! sends or takes any more.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Status;

use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::request;
use super::sending::Sending;
use super::streaming::End;
use super::streaming::Piece;
use super::streaming::UploadRequest;
use super::world::World;

const COLLECT: &str = "/v1/rooms/r/pieces:collect";
const CONVERSE: &str = "/v1/rooms/r/pieces:converse";
const UPLOAD: &str = "/v1/files/f";
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
const ARRAY: (&str, &str) = ("content-type", "application/json");

fn piece(name: &str, text: &str) -> Piece {
    Piece { name: name.to_owned(), text: text.to_owned(), request_id: String::new() }
}

async fn heard(world: &World, messages: usize) {
    let what = format!("{messages} messages are heard");
    world.eventually(&what, async || world.streams.heard::<Piece>().len() == messages).await;
}

async fn ended(world: &World, end: End, which: &str) {
    let what = format!("the stream is {end:?}: {which}");
    world.eventually(&what, async || world.streams.end() == Some(end)).await;
}

#[tokio::test]
async fn each_message_is_handed_on_as_soon_as_it_has_arrived() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        for (content_type, pieces) in [
            (ARRAY, ["[{\"text\": \"a]\"", "}, ", "{\"text\":\"b\"},", " {}", "]"]),
            (LINES, ["{\"text\": \"a]\"", "}\n\n", "{\"text\":\"b\"}\n", "{}", ""]),
        ] {
            world.streams.told().calls.clear();
            let headers = [content_type];
            let mut sending =
                Sending::begin(world.address, is_http2, "POST", COLLECT, &headers).await;
            for (sent, count) in pieces.into_iter().zip([0, 1, 2, 2, 3]) {
                if !sent.is_empty() {
                    assert!(sending.piece(sent).await);
                }
                // The last line ends with the body.
                if count < 3 || content_type == ARRAY {
                    heard(&world, count).await;
                }
                assert_eq!(world.streams.end(), None);
            }
            sending.end();
            let answer = sending.answer().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json(), json!({"text": "a]b", "messages": 3}));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let expected = [piece("rooms/r", "a]"), piece("", "b"), piece("", "")];
            assert_eq!(world.streams.heard::<Piece>(), expected);
            assert_eq!(world.streams.end(), Some(End::Whole));
        }
    }
}

#[tokio::test]
async fn a_stream_may_be_cut_at_every_byte() {
    let world = World::streaming(|_| ()).await;
    let text = r#"a\"]}\\é"#;
    for (content_type, body) in [
        (ARRAY, format!(" [ {{\"text\": \"{text}\"}} ,{{\"text\":\"[{{,\"}}\n] ")),
        (LINES, format!("{{\"text\": \"{text}\"}}\r\n \n{{\"text\":\"[{{,\"}}")),
    ] {
        for at in 0..=body.len() {
            world.streams.told().calls.clear();
            let is_http2 = at % 2 == 0;
            let headers = [content_type];
            let mut sending =
                Sending::begin(world.address, is_http2, "POST", COLLECT, &headers).await;
            let body = Bytes::from(body.clone());
            for part in [body.slice(..at), body.slice(at..)] {
                assert!(part.is_empty() || sending.piece(part).await);
            }
            sending.end();
            let answer = sending.answer().await;
            assert_eq!(answer.json(), json!({"text": "a\"]}\\é[{,", "messages": 2}), "{at}");
        }
    }
}

/// Both ways at once, over both versions of HTTP: a client that takes turns is answered in turn.
#[tokio::test]
async fn a_conversation_goes_back_and_forth() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        world.streams.told().calls.clear();
        let mut sending = Sending::begin(world.address, is_http2, "POST", CONVERSE, &[LINES]).await;
        assert!(sending.piece("{\"text\":\"0\"}\n").await);
        let response = sending.head().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let mut body = response.into_body();
        for turn in 0..3 {
            let said = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time");
            let said = said.expect("an answer").expect("whole").into_data().expect("data");
            let name = if turn == 0 { "\"name\":\"rooms/r\"," } else { "" };
            assert_eq!(said, format!("{{{name}\"text\":\"{turn}\"}}\n"));
            assert!(sending.piece(format!("{{\"text\":\"{}\"}}\n", turn + 1)).await);
        }
        sending.end();
        let rest = tokio::time::timeout(PATIENCE, body.collect()).await.expect("in time");
        assert_eq!(rest.expect("a whole body").to_bytes(), "{\"text\":\"3\"}\n");
        assert_eq!(world.streams.end(), Some(End::Whole));
    }
}

/// R29: the real status while the head is unsent; and no service takes what it has heard for the whole.
#[tokio::test]
async fn r29_a_stream_that_is_no_good_is_refused_by_its_messages_index_and_reset() {
    let world = World::streaming(|config| {
        config.body_bytes_max = 1_024;
        config.stream_bytes_max = 4_096;
    })
    .await;
    let long = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1_100));
    let spaces = " ".repeat(1_000) + "\n";
    for is_http2 in [false, true] {
        for (content_type, bad, status, reason, words) in [
            (LINES, "{\"text\":1}\n", 400, "INVALID_FIELD", "[1].text"),
            (LINES, "{\"name\":\"rooms/other\"}\n", 400, "INVALID_FIELD", "[1].name"),
            (LINES, "{\"text\":\n", 400, "MALFORMED", "message 1"),
            (LINES, &long, 413, "BODY_TOO_LARGE", "message 1"),
            (LINES, &spaces.repeat(5), 413, "BODY_TOO_LARGE", "4096"),
            (ARRAY, ",{\"text\":1},", 400, "INVALID_FIELD", "[1].text"),
            (ARRAY, "]]", 400, "MALFORMED", "something follows the array"),
        ] {
            world.streams.told().calls.clear();
            let headers = [content_type];
            let mut sending =
                Sending::begin(world.address, is_http2, "POST", COLLECT, &headers).await;
            let good = if content_type == LINES { "{}\n" } else { "[{}" };
            assert!(sending.piece(good).await);
            assert!(sending.piece(bad.to_owned()).await);
            if !is_http2 {
                // The rest is read before the answer.
                sending.end();
            }
            let answer = sending.answer().await;
            assert_eq!(answer.problem(), (status, reason.to_owned()), "{bad:?} {is_http2}");
            assert!(answer.text().contains(words), "{answer:?}");
            if !world.streams.told().calls.is_empty() {
                ended(&world, End::Broken, &format!("{bad:?}, HTTP/2: {is_http2}")).await;
            }
        }
    }
    // An array that ends too soon is as bad: the whole body was sent, and yet the stream is none.
    world.streams.told().calls.clear();
    let mut sending = Sending::begin(world.address, true, "POST", COLLECT, &[ARRAY]).await;
    assert!(sending.piece("[{},").await);
    heard(&world, 1).await;
    sending.end();
    assert_eq!(sending.answer().await.problem(), (400, "MALFORMED".to_owned()));
    ended(&world, End::Broken, "").await;
}

#[tokio::test]
async fn a_conversation_that_is_no_good_ends_with_why_as_its_last_word() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        world.streams.told().calls.clear();
        let mut sending = Sending::begin(world.address, is_http2, "POST", CONVERSE, &[LINES]).await;
        assert!(sending.piece("{}\n").await);
        let body = sending.head().await.into_body();
        assert!(sending.piece("{\"text\":1}\n").await);
        let said = tokio::time::timeout(PATIENCE, body.collect()).await.expect("in time");
        let said = said.expect("a whole body").to_bytes();
        let last = said.split(|byte| *byte == b'\n').nth(1).expect("a second line");
        let last: serde_json::Value = serde_json::from_slice(last).expect("JSON");
        assert_eq!(last["error"]["reason"], "INVALID_FIELD", "{last}");
        assert_eq!(last["error"]["violations"][0]["field"], "[1].text", "{last}");
        ended(&world, End::Broken, "").await;
    }
}

/// R43, with ten times the time that it promises.
#[tokio::test]
async fn r43_a_client_that_goes_away_resets_its_stream() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        for path in [COLLECT, CONVERSE] {
            world.streams.told().calls.clear();
            let mut sending = Sending::begin(world.address, is_http2, "POST", path, &[LINES]).await;
            assert!(sending.piece("{}\n").await);
            heard(&world, 1).await;
            let left = Instant::now();
            drop(sending);
            let which = format!("{path}, HTTP/2: {is_http2}");
            ended(&world, End::Broken, &which).await;
            assert!(left.elapsed() < Duration::from_secs(1), "{which}");
        }
    }
}

/// As a proxy resets a stream that it wants no more of: to the HTTP library below that is an end like another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r43_a_stream_that_is_reset_without_an_error_does_not_look_like_one_that_ended() {
    const ATTEMPTS: u32 = 100;
    let world = World::streaming(|_| ()).await;
    let io = TcpStream::connect(world.address).await.expect("it listens");
    let (mut sender, connection) = h2::client::handshake(io).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    // What ends the call and what ends its body are two tasks: which comes first is another matter each time.
    for _ in 0..ATTEMPTS {
        world.streams.told().calls.clear();
        let request = Request::post(format!("http://{}{COLLECT}", world.address));
        let request = request.header(LINES.0, LINES.1).body(()).expect("a request");
        let (_answer, mut body) = sender.send_request(request, false).expect("sent");
        body.send_data(Bytes::from_static(b"{}\n"), false).expect("sent");
        heard(&world, 1).await;
        body.send_reset(h2::Reason::NO_ERROR);
        ended(&world, End::Broken, "reset").await;
    }
}

/// R42.
#[tokio::test]
async fn r42_a_stream_that_takes_too_long_is_ended() {
    let world = World::streaming(|_| ()).await;
    let headers = [LINES, ("x-server-timeout", "0.3")];
    let mut sending = Sending::begin(world.address, true, "POST", COLLECT, &headers).await;
    assert!(sending.piece("{}\n").await);
    let answer = sending.answer().await;
    assert_eq!(answer.problem(), (504, "DEADLINE_EXCEEDED".to_owned()));
    ended(&world, End::Broken, "").await;
}

/// A service may know its answer before it has heard all; over HTTP/1.1 the client may read that only once it has sent all.
#[tokio::test]
async fn a_service_that_refuses_at_once_is_heard_by_a_client_that_sends_much() {
    let world = World::streaming(|_| ()).await;
    world.streams.told().failure = Some(Status::permission_denied("not here"));
    let line = Bytes::from(format!("{{\"text\":\"{}\"}}\n", "x".repeat(64 * 1024)));
    for is_http2 in [false, true] {
        let mut sending = Sending::begin(world.address, is_http2, "POST", COLLECT, &[LINES]).await;
        for _ in 0..50 {
            if sending.is_answered() || !sending.piece(line.clone()).await {
                break;
            }
        }
        sending.end();
        assert_eq!(sending.answer().await.status, 403, "HTTP/2: {is_http2}");
    }
}

#[tokio::test]
async fn what_is_wrong_from_the_beginning_reaches_no_service() {
    let world = World::streaming(|_| ()).await;
    let big = "x".repeat(4 << 20);
    for (path, headers, body, status) in [
        (COLLECT, vec![("content-type", "text/plain")], "{}", 415),
        (COLLECT, vec![], "{}", 415),
        (COLLECT, vec![LINES, ("content-encoding", "gzip")], "{}", 415),
        ("/v1/rooms/r/pieces:collect?nothing=1", vec![LINES], "{}", 400),
        (COLLECT, vec![LINES, ("x-server-timeout", "soon")], "{}", 400),
        ("/v1/rooms/r/pieces:closed", vec![LINES], big.as_str(), 401),
    ] {
        let answer = world.send_body("POST", path, &headers, body.to_owned()).await;
        assert_eq!(answer.status, status, "{path} {headers:?} {answer:?}");
        let uri = world.uri(path);
        let request = request("POST", &uri, &headers, body.to_owned());
        let answer = Connection::http2(world.address).await.send(request).await;
        assert_eq!(answer.status, status, "{path} {headers:?} {answer:?}");
    }
    assert!(world.streams.told().calls.is_empty());
}

#[tokio::test]
async fn an_idempotency_key_is_the_first_messages_request_id() {
    const ID: &str = "5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11";
    let world = World::streaming(|_| ()).await;
    let headers = [LINES, ("idempotency-key", ID)];
    let answer = world.send_body("POST", COLLECT, &headers, "{}\n{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ids: Vec<String> =
        world.streams.heard::<Piece>().into_iter().map(|piece| piece.request_id).collect();
    assert_eq!(ids, [ID, ""]);
}

#[tokio::test]
async fn a_file_is_handed_on_as_it_arrives_under_its_name_and_type() {
    let world = World::streaming(|_| ()).await;
    for is_http2 in [false, true] {
        world.streams.told().calls.clear();
        let headers = [("content-type", "image/png")];
        let path = "/v1/files/f?note=n";
        let mut sending = Sending::begin(world.address, is_http2, "PUT", path, &headers).await;
        assert!(sending.piece(&b"\x89PNG"[..]).await);
        let heard = async || world.streams.heard::<UploadRequest>().len() == 1;
        world.eventually("the beginning is heard", heard).await;
        let first = world.streams.heard::<UploadRequest>().remove(0);
        let file = first.file.expect("a file");
        assert_eq!((first.name.as_str(), first.note.as_str()), ("files/f", "n"));
        assert_eq!((file.content_type.as_str(), &file.data[..]), ("image/png", &b"\x89PNG"[..]));
        let big = Bytes::from(vec![7; 3 << 20]);
        assert!(sending.piece(big.clone()).await);
        sending.end();
        let answer = sending.answer().await;
        assert_eq!(answer.json()["bytes"], (4 + big.len()).to_string());
        for later in world.streams.heard::<UploadRequest>().into_iter().skip(1) {
            let file = later.file.expect("a file");
            assert!(later.name.is_empty() && file.content_type.is_empty(), "said once");
            assert!(file.data.len() <= 1 << 20);
        }
    }
    world.streams.told().calls.clear();
    let answer = world.send_body("PUT", UPLOAD, &[("content-type", "text/csv")], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let empty = world.streams.heard::<UploadRequest>();
    assert_eq!((empty.len(), empty[0].name.as_str()), (1, "files/f"), "an empty file is one");
}
