//! The OpenAPI document and its page, the headers that keep browsers in line, and the access log.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use edge::AccessLog;
use serde_json::Value;

use super::clients::Connection;
use super::clients::frame;
use super::clients::request;
use super::world::World;
use super::world::route;

const OPENAPI: &str = "/v1/openapi.json";
const DOCS: &str = "/docs";

#[tokio::test]
async fn the_document_and_its_page_are_for_everyone_and_for_every_cache() {
    let world = World::start().await;
    let public = "public, max-age=300, stale-while-revalidate=86400";
    for (path, media_type) in [(OPENAPI, "application/json"), (DOCS, "text/html; charset=utf-8")] {
        let answer = world.send("GET", path, &[("origin", "https://app.example")]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
        assert_eq!(answer.header("cache-control"), Some(public));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = world.send("GET", path, &[("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (304, 0));
        for coding in ["gzip", "br", "zstd"] {
            let headers = [("accept-encoding", coding)];
            let coded = world.send("GET", path, &headers).await;
            assert_eq!(coded.header("content-encoding"), Some(coding), "{path}");
            assert!(coded.body.len() < answer.body.len() / 2, "{path} {coding}");
            assert_ne!(coded.header("etag"), Some(tag.as_str()));
            let head = world.send("HEAD", path, &headers).await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), coded.header("content-length"));
        }
        let posted = world.send("POST", path, &[]).await;
        assert_eq!(posted.problem(), (405, "METHOD_UNKNOWN".to_owned()));
        assert_eq!(posted.header("allow"), Some("GET, HEAD"));
    }
    let document = world.send("GET", OPENAPI, &[]).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/v1/workspaces/{workspace}/links/{link}"));
    assert!(!document.to_string().contains("ResolverService"), "only what is public is told");
}

#[tokio::test]
async fn the_page_runs_its_own_script_alone_and_is_in_no_frame() {
    let world = World::start().await;
    let answer = world.send("GET", DOCS, &[]).await;
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn answers_of_the_api_say_what_a_browser_may_not_do_with_them() {
    let world = World::start().await;
    world.put("sale", 1, Some(route("https://shop.example")));
    let link = format!("{}/links/lnk_1", world.workspace());
    let bearer = world.bearer();
    let known = [("authorization", bearer.as_str())];
    for (path, headers) in [(link.as_str(), &known[..]), (&link, &[]), ("/v1/nothing/here", &[])] {
        let answer = world.send("GET", path, headers).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(answer.header("strict-transport-security"), None, "this port has no TLS");
    }
    let redirect = world.send("GET", "/sale", &[]).await;
    assert_eq!((redirect.status, redirect.header("referrer-policy")), (302, None));
}

/// What was logged so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics with it").clone()).expect("text")
    }

    fn read(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs what this thread does on the target `access`, and all of the world is on it.
fn logged(lines: &Lines) -> tracing::subscriber::DefaultGuard {
    let lines = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter("access=info")
        .with_writer(move || lines.clone())
        .finish();
    tracing::subscriber::set_default(subscriber)
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_call_and_nothing_that_is_nobodys_business() {
    let lines = Lines::default();
    let guard = logged(&lines);
    let world = World::with(|config| config.access_log = AccessLog::Calls).await;
    world.put("sale", 1, Some(route("https://shop.example")));
    // Looking for the services was calls too.
    let before = lines.read().len();
    let bearer = world.bearer();
    let path = format!("{}/links/lnk_1", world.workspace());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [
        ("authorization", bearer.as_str()),
        ("traceparent", parent.as_str()),
        ("x-request-id", "req-7"),
        ("x-forwarded-for", "203.0.113.77"),
    ];
    let answer = world.send("GET", &path, &headers).await;
    assert_eq!(world.send("GET", &path, &[]).await.status, 401);
    assert_eq!(world.send("GET", "/sale", &[]).await.status, 302);
    let grpc = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let asked = frame(&proto::links::v1::GetLinkRequest { name: "missing".to_owned() });
    let call = request("POST", &world.uri("/linkmesh.links.v1.LinksService/GetLink"), &grpc, asked);
    Connection::http2(world.address).await.send(call).await;

    let said = lines.read();
    let said = &said[before..];
    assert_eq!(said.len(), 3, "redirects have none: {said:?}");
    let route = "/linkmesh.links.v1.LinksService/GetLink";
    let first = &said[0];
    assert_eq!((&first["target"], &first["message"]), (&"access".into(), &"answered".into()));
    assert_eq!((&first["method"], &first["route"]), (&"GET".into(), &route.into()));
    assert_eq!((&first["status"], &first["bytes"]), (&200.into(), &answer.body.len().into()));
    assert_eq!((&first["trace_id"], &first["request_id"]), (&trace.into(), &"req-7".into()));
    assert!(first["took_micros"].is_u64(), "{first}");
    let rpc::Caller::ApiKey { key, .. } = world.principal.caller else { panic!("it is a key") };
    assert_eq!(first["caller"], key.to_string());
    assert_eq!((&said[1]["status"], said[1].get("caller")), (&401.into(), None), "{:?}", said[1]);
    assert_eq!((&said[2]["status"], &said[2]["grpc_code"]), (&404.into(), &"NOT_FOUND".into()));
    assert_eq!(said[2]["caller"], key.to_string());

    let text = lines.text();
    for secret in [world.key.reveal(), "127.0.0.1", "203.0.113.77", "lnk_1", "workspaces"] {
        assert!(!text.contains(secret), "{secret}");
    }
    drop(guard);
}

#[tokio::test]
async fn the_access_log_is_off_unless_it_is_asked_for_and_may_have_redirects() {
    for (wanted, count) in [(AccessLog::Off, 0), (AccessLog::All, 1)] {
        let lines = Lines::default();
        let guard = logged(&lines);
        let world = World::with(|config| config.access_log = wanted).await;
        world.put("sale", 1, Some(route("https://shop.example")));
        assert_eq!(world.send("GET", "/sale?secret=1", &[]).await.status, 302);
        let redirects = lines.read().into_iter().filter(|line| line["route"] == "/{slug}").count();
        assert_eq!(redirects, count, "{wanted:?}");
        assert!(!lines.text().contains("sale"));
        drop(guard);
    }
}
