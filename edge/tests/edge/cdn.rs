//! The cache that `manifests/cdn` describes, as Varnish before the edge: what it keeps, what it passes on, and who makes it forget.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::request;
use super::world::World;
use super::world::route;

const VCL: &str = include_str!("../../../manifests/cdn/varnish.vcl");
const KEYS: &str = "/.well-known/jwks.json";
const KEYS_KEY: &str = ".well-known/jwks.json";
/// What is kept for a client that says so holds for a moment only, so that a test sees it grow old.
const AGEING: (&str, &str) = ("x-ageing", "1");

/// Varnish before an edge; ends when dropped.
struct Cdn {
    address: SocketAddr,
    _varnish: Child,
    _folder: tempfile::TempDir,
}

impl Cdn {
    async fn before(edge: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = format!(".host = \"{}\";\n  .port = \"{}\";", edge.ip(), edge.port());
        let vcl = VCL.replace(".host = \"edge.linkmesh.svc\";\n  .port = \"8080\";", &place);
        assert!(vcl.contains(&place), "the edge's place has another form");
        let ageing = format!(
            "sub vcl_backend_response {{ if (bereq.http.{}) {{ set beresp.ttl = 50ms; }} }}\n",
            AGEING.0
        );
        let file = folder.path().join("test.vcl");
        std::fs::write(&file, vcl + &ageing).expect("written");
        let port = stack::port::free().expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let varnish = varnish(&file, &folder.path().join("varnish"), address);
        let answers = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("Varnish listens");
        Self { address, _varnish: varnish, _folder: folder }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        Connection::http1(self.address).await.send(request(method, path, headers, "")).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers).await
    }

    async fn purge(&self, key: &str) -> u16 {
        self.ask("PURGE", "/", &[("surrogate-key", key)]).await.status
    }
}

fn varnish(vcl: &Path, folder: &Path, address: SocketAddr) -> Child {
    let program = ["/usr/sbin/varnishd", "/usr/local/sbin/varnishd"];
    let program = program.into_iter().find(|path| Path::new(path).exists());
    let program = program.expect("varnishd is there: scripts/setup.sh test installs it");
    Command::new(program)
        // As its manual has it: a file of logs as small as can be, and nobody else to run as.
        .args(["-F", "-j", "none", "-p", "http_gzip_support=off", "-l", "2M", "-s", "malloc,16M"])
        .arg("-a")
        .arg(address.to_string())
        .arg("-n")
        .arg(folder)
        .arg("-f")
        .arg(vcl)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Varnish starts")
}

/// How often the keys were asked for behind the edge, for the edge itself or for a client.
fn publications(world: &World) -> usize {
    world.doubles.state().publications
}

#[tokio::test]
async fn r55_what_anyone_may_read_is_kept_for_all_and_what_is_proved_for_nobody() {
    let world = World::start().await;
    let cdn = Cdn::before(world.address).await;
    let first = cdn.get(KEYS, &[]).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("x-ratelimit-limit"), None, "one client's limits are not for all");
    let before = publications(&world);
    for _ in 0..5 {
        let again = cdn.get(KEYS, &[]).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
    }
    // Nor for whoever proves something: between those and the edge stands nobody.
    assert_eq!(publications(&world), before);
    let bearer = world.bearer();
    let proved = [("authorization", bearer.as_str())];
    for nth in 1..=2 {
        assert_eq!(cdn.get(KEYS, &proved).await.status, 200);
        assert_eq!(publications(&world), before + nth);
    }
    let link = format!("{}/links/lnk_1", world.workspace());
    for key in [("authorization", bearer.as_str()), ("x-api-key", world.key.reveal())] {
        assert_eq!(cdn.get(&link, &[key]).await.status, 200);
        assert_eq!(cdn.get(&link, &[]).await.problem(), (401, "CREDENTIALS_MISSING".to_owned()));
    }
    assert_eq!(world.doubles.state().calls.len(), 2);

    // An error is not kept: it is over as soon as it is over.
    world.doubles.state().is_away = true;
    assert_eq!(cdn.purge(KEYS_KEY).await, 200);
    assert!(cdn.get(KEYS, &[]).await.status >= 500);
    world.doubles.state().is_away = false;
    assert_eq!(cdn.get(KEYS, &[]).await.status, 200);
}

#[tokio::test]
async fn r56_every_click_comes_through_a_cache() {
    let world = World::start().await;
    world.put("sale", 1, Some(route("https://shop.example")));
    let cdn = Cdn::before(world.address).await;
    for _ in 0..3 {
        let answer = cdn.get("/sale", &[]).await;
        assert_eq!((answer.status, answer.header("location")), (302, Some("https://shop.example")));
    }
    assert_eq!(world.clicks(3).await.len(), 3);
    world.change("sale", 2, None).await;
    let is_gone = async || cdn.get("/sale", &[]).await.status == 404;
    world.eventually("a change is seen at once", is_gone).await;
}

/// The fault list, 12: also where a cache answers for the edge.
#[tokio::test]
async fn r54_a_cache_keeps_each_coding_with_its_own_tag_and_answers_304_for_that_alone() {
    let world = World::start().await;
    let cdn = Cdn::before(world.address).await;
    let mut seen = Vec::new();
    for (accepted, coding) in
        [("", None), ("gzip", Some("gzip")), ("gzip, deflate, br, zstd", Some("zstd"))]
    {
        let headers = [("accept-encoding", accepted)];
        let first = cdn.get("/v1/openapi.json", &headers).await;
        assert_eq!((first.status, first.header("content-encoding")), (200, coding));
        let direct = world.send("GET", "/v1/openapi.json", &headers).await;
        let tag = first.header("etag").expect("a tag").to_owned();
        assert_eq!(direct.header("etag"), Some(tag.as_str()), "as the edge has it");
        seen.push((accepted, tag));
    }
    for (accepted, own) in &seen {
        for (_, tag) in &seen {
            let headers = [("accept-encoding", *accepted), ("if-none-match", tag)];
            let answer = cdn.get("/v1/openapi.json", &headers).await;
            let expected = if tag == own { 304 } else { 200 };
            assert_eq!(answer.status, expected, "{accepted} with {tag}");
        }
    }
}

#[tokio::test]
async fn whoever_is_on_the_machine_makes_a_cache_forget_by_key_and_nobody_else() {
    let world = World::start().await;
    let cdn = Cdn::before(world.address).await;
    cdn.get(KEYS, &[]).await;
    let kept = publications(&world);
    for (key, status) in [
        // Another's, and what only a pattern would find.
        ("workspaces/w", 200),
        ("xwell-known/jwksxjson", 200),
        ("jwks.json", 200),
        (".*", 400),
        ("a b", 400),
        ("", 400),
    ] {
        assert_eq!(cdn.purge(key).await, status, "{key}");
        cdn.get(KEYS, &[]).await;
        assert_eq!(publications(&world), kept, "{key}");
    }

    let elsewhere = TcpSocket::new_v4().expect("a socket");
    elsewhere.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("an address of loopback");
    let mut elsewhere = elsewhere.connect(cdn.address).await.expect("it listens");
    let purge = format!(
        "PURGE / HTTP/1.1\r\nhost: x\r\nsurrogate-key: {KEYS_KEY}\r\nconnection: close\r\n\r\n"
    );
    elsewhere.write_all(purge.as_bytes()).await.expect("written");
    let mut answer = String::new();
    elsewhere.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    cdn.get(KEYS, &[]).await;
    assert_eq!(publications(&world), kept);

    assert_eq!(cdn.purge(KEYS_KEY).await, 200);
    cdn.get(KEYS, &[]).await;
    assert_eq!(publications(&world), kept + 1);
}

/// Asks until the cache says what it has kept for longer than it holds.
async fn until_old(cdn: &Cdn, world: &World) -> Answer {
    let old = std::sync::Mutex::new(None);
    world
        .eventually("what is kept grows old", async || {
            let answer = cdn.get(KEYS, &[AGEING]).await;
            let age = answer.header("age").and_then(|age| age.parse::<u64>().ok());
            *old.lock().expect("no panic") = Some(answer);
            age.is_some_and(|age| age >= 1)
        })
        .await;
    old.into_inner().expect("no panic").expect("an answer")
}

#[tokio::test]
async fn what_is_old_is_served_on_while_the_edge_fails_or_is_away() {
    let world = World::start().await;
    let cdn = Cdn::before(world.address).await;
    let first = cdn.get(KEYS, &[AGEING]).await;
    assert_eq!(first.status, 200);
    // Kept before, by the cache that asks again behind the answer: a failure takes nothing of it away.
    world.doubles.state().is_away = true;
    for _ in 0..2 {
        let old = until_old(&cdn, &world).await;
        assert_eq!((old.status, &old.body), (200, &first.body));
    }
    world.doubles.state().is_away = false;
    world.stop.cancel();
    let is_away = async || TcpStream::connect(world.address).await.is_err();
    world.eventually("the edge is away", is_away).await;
    for _ in 0..2 {
        let old = until_old(&cdn, &world).await;
        assert_eq!((old.status, &old.body), (200, &first.body));
    }
    assert_eq!(cdn.get("/sale", &[]).await.status, 503, "and nothing is made up");
}
