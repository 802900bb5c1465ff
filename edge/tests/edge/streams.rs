//! A stream of messages by REST: lines, events or an array, and how each ends.

use proto::analytics::v1::WatchClicksRequest;
use proto::analytics::v1::WatchClicksResponse;
use proto::analytics::v1::WatchedClick;
use tonic::Status;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::frame;
use super::clients::request;
use super::world::World;

fn click(token: &str) -> Result<WatchClicksResponse, Status> {
    let click = WatchedClick { country: "SE".to_owned(), ..WatchedClick::default() };
    Ok(WatchClicksResponse { click: Some(click), resume_token: token.to_owned() })
}

async fn watch(world: &World, accept: &str, more: &[(&str, &str)]) -> Answer {
    let path = format!("{}/clicks:watch", world.workspace());
    let bearer = world.bearer();
    let mut headers = vec![("authorization", bearer.as_str()), ("accept", accept)];
    headers.extend(more);
    world.send("GET", &path, &headers).await
}

#[tokio::test]
async fn a_stream_has_the_form_that_is_accepted() {
    let world = World::start().await;
    let one = r#"{"click":{"country":"SE"},"resumeToken":"a"}"#;
    let two = r#"{"click":{"country":"SE"},"resumeToken":"b"}"#;
    for (accept, media_type, body) in [
        ("*/*", "application/x-ndjson", format!("{one}\n{two}\n")),
        ("application/json", "application/json", format!("[{one},{two}]")),
        (
            "text/event-stream",
            "text/event-stream",
            format!("id: a\ndata: {one}\n\nid: b\ndata: {two}\n\n"),
        ),
    ] {
        world.doubles.state().clicks = vec![click("a"), click("b")];
        let answer = watch(&world, accept, &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some(media_type));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache, no-transform"));
        assert_eq!(answer.text(), body);
    }
    let answer = watch(&world, "application/json", &[]).await;
    assert_eq!(answer.text(), "[]", "an array without messages is one all the same");
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_message_has_the_failures_own_status() {
    let world = World::start().await;
    let failure = rpc::Error::invalid("resume_token", "is not one");
    for accept in ["*/*", "application/json", "text/event-stream"] {
        world.doubles.state().clicks = vec![Err(failure.clone().into())];
        let answer = watch(&world, accept, &[]).await;
        assert_eq!(answer.problem(), (400, "INVALID_FIELD".to_owned()), "{accept}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_later_says_so_as_its_last_word() {
    let world = World::start().await;
    for (accept, end) in
        [("*/*", "}}\n"), ("application/json", "}}]"), ("text/event-stream", "}\n\n")]
    {
        let late = rpc::Error::overloaded("too slow", std::time::Duration::from_secs(1));
        world.doubles.state().clicks = vec![click("a"), Err(late.into())];
        let answer = watch(&world, accept, &[]).await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(text.contains("\"reason\":\"OVERLOADED\"") && text.ends_with(end), "{text}");
    }
}

#[tokio::test]
async fn a_browser_that_reconnects_resumes_after_what_it_saw_last() {
    let world = World::start().await;
    world.doubles.state().clicks = vec![click("d")];
    let answer = watch(&world, "text/event-stream", &[("last-event-id", "c=/+")]).await;
    let expected = "id: c=/+\ndata: {\"resumeToken\":\"c=/+\"}\n\nid: d\n";
    assert!(answer.text().starts_with(expected), "{}", answer.text());
}

#[tokio::test]
async fn a_stop_ends_open_streams_with_a_last_word_instead_of_waiting_for_them() {
    const WATCH: &str = "/linkmesh.analytics.v1.AnalyticsService/WatchClicks";
    let world = World::start().await;
    world.doubles.state().watches_last = true;
    let bearer = world.bearer();
    let message = frame(&WatchClicksRequest::default());
    let typed = |content_type| {
        [("authorization", bearer.as_str()), ("content-type", content_type), ("te", "trailers")]
    };
    let mut one = Connection::http1(world.address).await;
    let mut two = Connection::http2(world.address).await;
    let watches = async {
        tokio::join!(
            watch(&world, "text/event-stream", &[]),
            one.send(request("POST", WATCH, &typed("application/grpc-web"), message.clone())),
            two.send(request(
                "POST",
                &world.uri(WATCH),
                &typed("application/grpc"),
                message.clone()
            )),
        )
    };
    let stopping = async {
        world.eventually("all are open", async || world.doubles.state().calls.len() == 3).await;
        world.stop.cancel();
    };
    let ((events, web, grpc), ()) = tokio::join!(watches, stopping);
    assert!(events.text().contains("event: error\ndata: "), "{events:?}");
    assert!(events.text().contains("NO_ENDPOINT"), "{events:?}");
    assert!(String::from_utf8_lossy(&web.body).contains("grpc-status: 14"), "{web:?}");
    assert_eq!(grpc.trailers.get("grpc-status").map(http::HeaderValue::as_bytes), Some(&b"14"[..]));
    let stopped = world.stopped().await;
    assert!(stopped.is_ok(), "{stopped:?}");
}

/// R59: what a proxy or a browser must know, at once, and nothing that would hold an event back.
#[tokio::test]
async fn r59_events_are_neither_kept_nor_compressed_nor_cut() {
    let world = World::start().await;
    let country = "x".repeat(100 * 1024);
    let large = WatchedClick { country: country.clone(), ..WatchedClick::default() };
    let large = WatchClicksResponse { click: Some(large), resume_token: "b".to_owned() };
    for (accept, media_type) in
        [("text/event-stream", "text/event-stream"), ("*/*", "application/x-ndjson")]
    {
        world.doubles.state().clicks = vec![click("a"), Ok(large.clone())];
        let answer = watch(&world, accept, &[("accept-encoding", "gzip, br, zstd")]).await;
        assert_eq!(answer.header("content-type"), Some(media_type));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache, no-transform"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!((answer.header("etag"), answer.header("content-length")), (None, None));
        let text = answer.text();
        let data = text.lines().filter(|line| line.contains(&country)).collect::<Vec<_>>();
        assert_eq!(data.len(), 1, "one line of {} bytes", 100 * 1024);
        let json = data[0].trim_start_matches("data: ");
        let event: serde_json::Value = serde_json::from_str(json).expect("whole");
        assert_eq!(event["click"]["country"], country);
    }
}
