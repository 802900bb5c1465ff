//! What the edge makes of services that break off, say too much, or say what nobody can read: the fault list, 2, 3 and 4.

use bytes::Bytes;
use proto::analytics::v1::WatchClicksRequest;
use proto::analytics::v1::WatchClicksResponse;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::GetLinkResponse;
use proto::links::v1::Link;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::frame;
use super::clients::request;
use super::raw;
use super::raw::End;
use super::world::World;

const WATCH: &str = "/linkmesh.analytics.v1.AnalyticsService/WatchClicks";
const GET_LINK: &str = "/linkmesh.links.v1.LinksService/GetLink";
/// One more than the edge takes of an answer.
const TOO_LONG: usize = (64 << 20) + 1;

/// How a client asks: by REST for a media type, or by a protocol's content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Rest(&'static str),
    As(&'static str),
}

const WATCHES: [Asks; 9] = [
    Asks::Rest("application/x-ndjson"),
    Asks::Rest("application/json"),
    Asks::Rest("text/event-stream"),
    Asks::As("application/grpc"),
    Asks::As("application/grpc-web"),
    Asks::As("application/grpc-web-text"),
    Asks::As("application/grpc-web+json"),
    Asks::As("application/connect+proto"),
    Asks::As("application/connect+json"),
];
const GETS: [Asks; 5] = [
    Asks::Rest("application/json"),
    Asks::As("application/grpc"),
    Asks::As("application/grpc-web"),
    Asks::As("application/proto"),
    Asks::As("application/json"),
];

fn said(end: End, frames: usize) -> raw::Answer {
    let message = WatchClicksResponse { resume_token: "seen".to_owned(), ..Default::default() };
    raw::Answer { frames: vec![frame(&message); frames], end }
}

/// An envelope of JSON or of a message, as the content type has it.
fn enveloped(content_type: &str, message: &impl prost::Message) -> Bytes {
    let body = if content_type.ends_with("json") {
        [&[0, 0, 0, 0, 2], &b"{}"[..]].concat().into()
    } else {
        frame(message)
    };
    if content_type.contains("text") { base64(&body).into() } else { body }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn ask(world: &World, version: u8, asks: Asks, is_watch: bool) -> Answer {
    let bearer = world.bearer();
    let (method, path, kind, body) = match asks {
        Asks::Rest(accept) => {
            let path = if is_watch { "clicks:watch" } else { "links/lnk_1" };
            ("GET", format!("{}/{path}", world.workspace()), ("accept", accept), Bytes::new())
        }
        Asks::As(content_type) if is_watch => {
            let body = enveloped(content_type, &WatchClicksRequest::default());
            ("POST", WATCH.to_owned(), ("content-type", content_type), body)
        }
        Asks::As(content_type) => {
            let body = match content_type {
                "application/proto" => Bytes::new(),
                "application/json" => Bytes::from_static(b"{}"),
                _ => frame(&GetLinkRequest::default()),
            };
            ("POST", GET_LINK.to_owned(), ("content-type", content_type), body)
        }
    };
    let headers = [("authorization", bearer.as_str()), kind, ("te", "trailers")];
    let (mut connection, path) = match version {
        1 => (Connection::http1(world.address).await, path),
        _ => (Connection::http2(world.address).await, world.uri(&path)),
    };
    connection.send(request(method, &path, &headers, body)).await
}

/// Whether an answer says that it failed, in the way of what it was asked for; and how many messages it has.
fn failed(asks: Asks, answer: &Answer) -> (bool, usize) {
    let text = match asks {
        Asks::As(content_type) if content_type.contains("text") => {
            let decoded = answer.body.chunks(4).flat_map(|quartet| {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(quartet).expect("base64")
            });
            String::from_utf8_lossy(&decoded.collect::<Vec<_>>()).into_owned()
        }
        Asks::Rest(_) | Asks::As(_) => answer.text_lossy(),
    };
    let is_json = matches!(asks, Asks::Rest(_)) || format!("{asks:?}").contains("json");
    let messages = text.matches(if is_json { "\"seen\"" } else { "seen" }).count();
    let is_failure = |code: &str| !code.is_empty() && code != "0";
    let failed = match asks {
        Asks::Rest(_) if answer.status >= 400 => answer.problem().0 >= 500,
        Asks::Rest("application/x-ndjson") => {
            text.lines().last().is_some_and(|line| line.starts_with("{\"error\":"))
        }
        Asks::Rest("application/json") => {
            let all: serde_json::Value = serde_json::from_str(&text).expect("a whole array");
            all.as_array().and_then(|all| all.last()).is_some_and(|last| last["error"].is_object())
        }
        Asks::Rest(_) => text.contains("event: error\n"),
        Asks::As(content_type) if content_type.contains("connect") => {
            text.contains("{\"error\":{\"code\":")
        }
        Asks::As("application/proto" | "application/json") => {
            answer.status >= 500 && answer.json()["code"].is_string()
        }
        Asks::As("application/grpc") => {
            let status = answer.header("grpc-status").or_else(|| {
                answer.trailers.get("grpc-status").map(|value| value.to_str().expect("text"))
            });
            is_failure(status.unwrap_or_default())
        }
        Asks::As(_) => {
            let in_body = text.split("grpc-status:").nth(1).unwrap_or_default().trim_start();
            let in_body = in_body.split('\r').next().unwrap_or_default();
            is_failure(answer.header("grpc-status").unwrap_or(in_body))
        }
    };
    (failed, messages)
}

fn ends() -> [End; 3] {
    [End::Silent, End::Broken, End::saying(&[("grpc-status", b"13"), ("grpc-message", b"no")])]
}

/// The fault list, 2.
#[tokio::test]
async fn a_service_that_breaks_off_never_makes_a_clean_end_in_any_protocol_over_either_http() {
    let world = World::start().await;
    for end in ends() {
        for messages in [0, 2] {
            world.doubles.state().raw = Some(said(end.clone(), messages));
            for asks in WATCHES {
                for version in [1, 2] {
                    if (asks, version) == (Asks::As("application/grpc"), 1) {
                        continue;
                    }
                    let answer = ask(&world, version, asks, true).await;
                    let what = format!("{end:?} after {messages}, {asks:?}, HTTP/{version}");
                    assert_eq!(failed(asks, &answer), (true, messages), "{what}: {answer:?}");
                    if matches!(asks, Asks::Rest(_)) && messages == 0 {
                        assert!(answer.status >= 500, "{what}: its own status: {answer:?}");
                    }
                }
            }
        }
    }
}

/// The fault list, 2: where one message is due, none and one without an end are failures alike.
#[tokio::test]
async fn an_answer_of_one_message_without_its_end_is_none() {
    let world = World::start().await;
    let link = Some(Link { name: "seen".to_owned(), ..Link::default() });
    let message = frame(&GetLinkResponse { link });
    let ok = End::saying(&[("grpc-status", b"0")]);
    let cases = ends().into_iter().flat_map(|end| [(end.clone(), 0), (end, 1)]);
    for (end, messages) in cases.chain([(ok, 0)]) {
        let is_ok = messages == 0 && format!("{end:?}").contains("\"0\"");
        let frames = vec![message.clone(); messages];
        world.doubles.state().raw = Some(raw::Answer { frames, end: end.clone() });
        for asks in GETS {
            // Whoever speaks gRPC counts for themselves.
            let passes = matches!(asks, Asks::As("application/grpc" | "application/grpc-web"));
            if passes && is_ok {
                continue;
            }
            let answer = ask(&world, 2, asks, false).await;
            let (failed, _) = failed(asks, &answer);
            assert!(failed, "{end:?} after {messages}, {asks:?}: {answer:?}");
        }
    }
}

/// R24: what a proxy in between says in HTTP alone.
#[tokio::test]
async fn r24_an_answer_that_is_no_grpc_has_the_code_of_its_status() {
    let world = World::start().await;
    for (status, rest, code) in [
        (400, 500, tonic::Code::Internal),
        (401, 401, tonic::Code::Unauthenticated),
        (403, 403, tonic::Code::PermissionDenied),
        (404, 501, tonic::Code::Unimplemented),
        (429, 503, tonic::Code::Unavailable),
        (500, 500, tonic::Code::Unknown),
        (502, 503, tonic::Code::Unavailable),
        (503, 503, tonic::Code::Unavailable),
        (504, 503, tonic::Code::Unavailable),
    ] {
        let end = End::Http(status);
        world.doubles.state().raw = Some(raw::Answer { frames: Vec::new(), end });
        let answer = ask(&world, 2, Asks::Rest("application/json"), false).await;
        assert_eq!(answer.problem().0, rest, "{status}");
        let answer = ask(&world, 2, Asks::As("application/grpc"), false).await;
        let headers = if answer.trailers.is_empty() { &answer.headers } else { &answer.trailers };
        let said = tonic::Status::from_header_map(headers).map(|status| status.code());
        assert_eq!(said, Some(code), "{status}");
    }
}

/// The fault list, 3: an answer over the limit is the service's fault, and said.
#[tokio::test]
async fn an_answer_over_the_limit_is_a_failure_and_never_empty_or_the_clients_fault() {
    let world = World::start().await;
    let link = Some(Link { name: "x".repeat(TOO_LONG), ..Link::default() });
    let frames = vec![frame(&GetLinkResponse { link })];
    let end = End::saying(&[("grpc-status", b"0")]);
    world.doubles.state().raw = Some(raw::Answer { frames, end });
    let rest = ask(&world, 2, Asks::Rest("application/json"), false).await;
    assert_eq!(rest.problem(), (500, "INTERNAL".to_owned()));
    let connect = ask(&world, 2, Asks::As("application/json"), false).await;
    assert_eq!(connect.json()["code"], "resource_exhausted", "as Connect has it: {connect:?}");

    let message = WatchClicksResponse { resume_token: "x".repeat(TOO_LONG), ..Default::default() };
    let mut answer = said(End::saying(&[("grpc-status", b"0")]), 1);
    answer.frames.push(frame(&message));
    world.doubles.state().raw = Some(answer);
    for asks in [Asks::Rest("text/event-stream"), Asks::As("application/connect+json")] {
        let answer = ask(&world, 2, asks, true).await;
        assert_eq!(failed(asks, &answer), (true, 1), "{asks:?}: {answer:?}");
    }
}

/// The fault list, 4: the code counts, whatever stands around it.
#[tokio::test]
async fn a_status_that_can_not_be_read_keeps_its_code_in_every_protocol() {
    let world = World::start().await;
    let messages: [&[u8]; 4] = [b"%FF%zz%", b"caf\xc3\xa9", b"100%", b""];
    let details: [&[u8]; 4] = [b"!!!", b"a", b"/////w", b"CAUSB25vIGxpbms="];
    for (message, details) in messages.into_iter().zip(details) {
        let end = End::saying(&[
            ("grpc-status", b"5"),
            ("grpc-message", message),
            ("grpc-status-details-bin", details),
        ]);
        world.doubles.state().raw = Some(raw::Answer { frames: Vec::new(), end });
        for asks in GETS {
            let answer = ask(&world, 2, asks, false).await;
            let said = answer.text_lossy();
            match asks {
                Asks::Rest(_) => assert_eq!(answer.problem(), (404, "NOT_FOUND".to_owned())),
                Asks::As("application/proto" | "application/json") => {
                    assert_eq!((answer.status, &answer.json()["code"]), (404, &"not_found".into()));
                }
                Asks::As(_) => {
                    let headers =
                        if answer.trailers.is_empty() { &answer.headers } else { &answer.trailers };
                    let status = tonic::Status::from_header_map(headers);
                    let code = status.map(|status| status.code());
                    let in_body =
                        said.contains("grpc-status:5\r") || said.contains("grpc-status: 5\r");
                    assert!(code == Some(tonic::Code::NotFound) || in_body, "{asks:?} {answer:?}");
                }
            }
        }
    }
}
