//! How errors are told: in the form that a client asks for, with a reason, and with when and how to come again.

use prost::Message as _;
use proto::google::rpc as google;
use serde_json::Value;
use tonic::Code;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::frame;
use super::clients::request;
use super::world::World;

const STATUS: &str = "application/vnd.google.rpc.status+json";
const AIP_193: &str = "application/vnd.google.aip-193+json";
const COUNT_CLICKS: &str = "/linkmesh.analytics.v1.AnalyticsService/CountClicks";

fn info(details: &Value) -> &Value {
    let list = details.as_array().expect("details");
    let infos: Vec<&Value> = list
        .iter()
        .filter(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo")
        .collect();
    assert_eq!(infos.len(), 1, "{details}");
    infos[0]
}

async fn count(world: &World, more: &[(&str, &str)]) -> Answer {
    let bearer = world.bearer();
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(more);
    world.send("GET", &format!("{}/clicks:count", world.workspace()), &headers).await
}

#[tokio::test]
async fn r26_every_error_has_its_reason_in_each_form_that_can_be_asked_for() {
    let world = World::start().await;
    let bearer = world.bearer();
    let link = format!("{}/links/lnk_1", world.workspace());
    let known = [("authorization", bearer.as_str())];
    for (method, path, who, status, code, name, reason) in [
        ("GET", "/v1/nothing/here", &[][..], 404, 12, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("GET", "/nolink", &[], 404, 5, "NOT_FOUND", "NOT_FOUND"),
        ("GET", &link, &[], 401, 16, "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        ("GET", &link, &[("x-api-key", "junk")], 401, 16, "UNAUTHENTICATED", "API_KEY_INVALID"),
        ("PUT", &link, &known, 405, 12, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("GET", &format!("{link}?a=b"), &known, 400, 3, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ("GET", &format!("{link}missing"), &known, 404, 5, "NOT_FOUND", "NOT_FOUND"),
    ] {
        for accept in ["*/*", "application/json", STATUS, AIP_193] {
            let headers: Vec<_> = who.iter().copied().chain([("accept", accept)]).collect();
            let answer = world.send(method, path, &headers).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "R55: {answer:?}");
            let body = match accept {
                STATUS | AIP_193 => answer.json(),
                _ => {
                    assert_eq!(answer.problem(), (status, reason.to_owned()), "{method} {path}");
                    continue;
                }
            };
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("content-type"), Some(accept));
            let details = if accept == STATUS {
                assert_eq!(body["code"], code, "{body}");
                &body["details"]
            } else {
                assert_eq!(body["error"]["code"], status, "{body}");
                assert_eq!(body["error"]["status"], name, "{body}");
                &body["error"]["details"]
            };
            assert_eq!(info(details)["reason"], reason, "{body}");
            assert_eq!(info(details)["domain"], "linkmesh", "{body}");
        }
    }
}

#[tokio::test]
async fn r26_what_a_service_gives_no_reason_for_gets_its_codes_in_every_protocol() {
    let world = World::start().await;
    let bearer = world.bearer();
    world.doubles.state().failure = Some(Status::failed_precondition("not now"));
    assert_eq!(count(&world, &[]).await.problem(), (400, "STATE_CONFLICT".to_owned()));
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", content_type),
            ("te", "trailers"),
        ];
        let asked = proto::analytics::v1::CountClicksRequest::default();
        let call = request("POST", &world.uri(COUNT_CLICKS), &headers, frame(&asked));
        let answer = Connection::http2(world.address).await.send(call).await;
        let said = Status::from_header_map(&answer.headers).expect("trailers only");
        assert_eq!((said.code(), said.message()), (Code::FailedPrecondition, "not now"));
        assert_eq!(said.get_details_error_info().expect("an ErrorInfo").reason, "STATE_CONFLICT");
    }
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.send_body("POST", COUNT_CLICKS, &headers, "{}").await;
    assert_eq!(answer.json()["details"][0]["type"], "google.rpc.ErrorInfo", "{answer:?}");
}

#[tokio::test]
async fn r27_a_401_challenges_and_what_may_help_later_says_when() {
    let world = World::start().await;
    let link = format!("{}/links/lnk_1", world.workspace());
    let missing = world.send("GET", &link, &[]).await;
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"linkmesh\""));
    let junk = world.send("GET", &link, &[("authorization", "Bearer junk")]).await;
    let challenge = "Bearer realm=\"linkmesh\", error=\"invalid_token\"";
    assert_eq!(junk.header("www-authenticate"), Some(challenge), "and not the message");

    let wait = std::time::Duration::from_millis(2_500);
    for (failure, status, seconds) in [
        (rpc::Error::overloaded("too much", wait).into(), 429, 2.5),
        (rpc::Error::rate_limited("too many", wait).into(), 429, 2.5),
        (Status::unavailable("away"), 503, 1.0),
        (Status::resource_exhausted("full"), 429, 1.0),
    ] {
        world.doubles.state().failure = Some(failure);
        let answer = count(&world, &[]).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let whole = if seconds > 1.0 { "3" } else { "1" };
        assert_eq!(answer.header("retry-after"), Some(whole), "rounded up: {answer:?}");
        assert_eq!(answer.json()["retryAfterSeconds"], seconds);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = count(&world, &[("accept", STATUS)]).await;
        let details = answer.json()["details"].to_string();
        assert!(details.contains("google.rpc.RetryInfo"), "{details}");
    }
}

#[tokio::test]
async fn r28_what_is_for_debugging_stays_inside_and_what_is_unknown_passes() {
    let world = World::start().await;
    let any = |name: &str, value: Vec<u8>| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let debug = google::DebugInfo { detail: "secret".to_owned(), ..google::DebugInfo::default() };
    let details = google::Status {
        code: 9,
        message: "no".to_owned(),
        details: vec![
            any("google.rpc.DebugInfo", debug.encode_to_vec()),
            any("unknown.Detail", vec![8, 1]),
        ],
    };
    let details = details.encode_to_vec().into();
    world.doubles.state().failure =
        Some(Status::with_details(Code::FailedPrecondition, "no", details));
    for accept in ["*/*", STATUS, AIP_193] {
        let answer = count(&world, &[("accept", accept)]).await;
        let text = answer.text();
        assert!(!text.contains("secret") && !text.contains("DebugInfo"), "{text}");
        assert_eq!(text.contains("unknown.Detail"), accept != "*/*", "{text}");
    }
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.send_body("POST", COUNT_CLICKS, &headers, "{}").await;
    assert!(!answer.text().contains("DebugInfo"), "{answer:?}");
}

#[tokio::test]
async fn r28_a_stream_that_fails_later_says_so_in_the_form_that_was_asked_for() {
    let world = World::start().await;
    let bearer = world.bearer();
    let path = format!("{}/clicks:watch", world.workspace());
    for (accept, code) in
        [("application/x-ndjson", "\"code\":\"RESOURCE_EXHAUSTED\""), (STATUS, "\"code\":8")]
    {
        let late = rpc::Error::overloaded("too slow", std::time::Duration::from_secs(1));
        let first = proto::analytics::v1::WatchClicksResponse::default();
        world.doubles.state().clicks = vec![Ok(first), Err(late.into())];
        let headers = [("authorization", bearer.as_str()), ("accept", accept)];
        let answer = world.send("GET", &path, &headers).await;
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let text = answer.text();
        let last = text.lines().last().expect("a line");
        assert!(last.starts_with("{\"error\":{") && last.contains(code), "{text}");
    }
}
