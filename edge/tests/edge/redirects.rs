//! Short links: where they lead, what they say when they do not, and what is kept of a click.

use std::time::Duration;

use jiff::Timestamp;
use proto::events::v1::ClickMethod;
use proto::links::v1::Route;
use proto::links::v1::UtmParameters;
use tokio::sync::Semaphore;

use super::clients::Connection;
use super::clients::request;
use super::port;
use super::setup::Setup;
use super::world::World;
use super::world::route;

/// R56: who may keep a redirect is said, and HEAD has the same headers.
#[tokio::test]
async fn a_click_is_redirected_and_on_the_bus_with_all_that_is_kept_of_it() {
    let world = World::with(|config| config.trusted_proxies = vec!["127.0.0.0/8".to_owned()]).await;
    let target = Route {
        utm: Some(UtmParameters { source: "own".to_owned(), ..UtmParameters::default() }),
        ..route("https://shop.example/offer")
    };
    world.put("sale", 1, Some(target.clone()));
    let headers = [
        ("user-agent", "Mozilla/5.0"),
        ("referer", "https://News.example:443/today"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    let answer = world.send("GET", "/Sale?utm_medium=mail", &headers).await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("https://shop.example/offer"));
    assert_eq!(answer.header("cache-control"), Some("private, max-age=0"));
    assert!(answer.body.is_empty());

    let head = world.send("HEAD", "/sale", &headers).await;
    assert_eq!(head.status, 302);
    for name in ["location", "cache-control", "content-length"] {
        assert_eq!(head.header(name), answer.header(name), "{name}");
    }

    let mut clicks = world.clicks(2).await;
    clicks.sort_by_key(|click| click.time_unix_micros);
    let [click, of_head] = clicks.as_slice() else { panic!("{clicks:?}") };
    assert_eq!((&click.link_id, &click.workspace_id), (&target.link_id, &target.workspace_id));
    assert_eq!(click.method(), ClickMethod::Get);
    assert_eq!(of_head.method(), ClickMethod::Head);
    assert_eq!(click.user_agent, b"Mozilla/5.0");
    assert_eq!(click.referrer_host, b"news.example");
    assert_eq!((&click.utm_source[..], &click.utm_medium[..]), (&b"own"[..], &b"mail"[..]));
    let bytes = prost::Message::encode_to_vec(click);
    assert!(!bytes.windows(4).any(|four| four == [203, 0, 113, 7]), "no address is kept");
    let stopped = world.stopped().await;
    assert!(stopped.is_ok(), "{stopped:?}");
}

#[tokio::test]
async fn the_forwarding_header_tells_visitors_apart_only_behind_a_trusted_proxy() {
    for (trusted, different) in [(vec!["127.0.0.0/8".to_owned()], 2), (Vec::new(), 1)] {
        let world = World::with(|config| config.trusted_proxies = trusted).await;
        world.put("sale", 1, Some(route("https://shop.example")));
        let forwarded = ["203.0.113.7", "2001:db8::7"];
        // Salts come by a task of their own: until then a click has no visitor.
        world
            .eventually("visitors have hashes", async || {
                world.send("GET", "/sale", &[("x-forwarded-for", "192.0.2.1")]).await;
                world.clicks(1).await.iter().any(|click| !click.visitor_hash.is_empty())
            })
            .await;
        let before = world.clicks(1).await.len();
        for address in forwarded {
            world.send("GET", "/sale", &[("x-forwarded-for", address)]).await;
        }
        let since = Timestamp::now().as_microsecond() - 60_000_000;
        let mut clicks = world.clicks(before + 2).await;
        clicks.sort_by_key(|click| click.time_unix_micros);
        assert!(clicks.iter().all(|click| click.time_unix_micros > since.unsigned_abs()));
        let mut hashes: Vec<_> =
            clicks[before..].iter().map(|click| click.visitor_hash.clone()).collect();
        assert!(hashes.iter().all(|hash| hash.len() == 8));
        hashes.dedup();
        assert_eq!(hashes.len(), different);
    }
}

/// R57: with the link remembered nobody is asked, and each redirect's click was written before it was answered.
#[tokio::test]
async fn r57_a_remembered_link_needs_no_service_and_loses_no_click() {
    let world = World::start().await;
    world.put("sale", 1, Some(route("https://shop.example")));
    assert_eq!(world.send("GET", "/sale", &[]).await.status, 302);
    let resolves = world.doubles.state().resolves;
    world.doubles.state().is_away = true;
    for _ in 0..20 {
        let answer = world.send("GET", "/sale", &[]).await;
        assert_eq!((answer.status, answer.body.len()), (302, 0));
        assert_eq!(answer.header("content-type"), None);
    }
    assert_eq!(world.doubles.state().resolves, resolves);
    assert_eq!(world.clicks(21).await.len(), 21);
}

/// R57: the spool is as full as it may get, and nothing can be shipped.
#[tokio::test]
async fn r57_at_the_spools_bound_redirects_answer_and_what_is_lost_is_counted() {
    /// The least that the configuration takes.
    const BOUND: u64 = 32 << 20;
    /// Some hundred clicks.
    const ROOM: u64 = 64 << 10;
    let bus = format!("kafka://127.0.0.1:{}", stack::port::free().expect("a port"));
    let setup = Setup { bus: Some(bus), ..Setup::default() };
    let spool = setup.folder.path().join("edge/spool");
    std::fs::create_dir_all(&spool).expect("a folder");
    // What an earlier process has left that nobody can read, of which the disk holds nothing.
    let left = std::fs::File::create(spool.join("0.damaged")).expect("a file");
    left.set_len(BOUND - ROOM).expect("its length");
    let world = World::set_up(setup, |config| {
        config.spool_bytes_max = BOUND;
        config.ship_max = Duration::ZERO;
    })
    .await;
    world.put("sale", 1, Some(route("https://shop.example")));
    let mut connection = Connection::http1(world.address).await;
    let lost = async || world.metric("spool_lost_clicks_total{service=\"edge\"}").await;
    let mut answered = 0.0;
    let mut click = async || {
        let agent = "x".repeat(500);
        let headers = [("user-agent", agent.as_str())];
        let answer = connection.send(request("GET", "/sale", &headers, "")).await;
        assert_eq!((answer.status, answer.header("location")), (302, Some("https://shop.example")));
        answered += 1.0;
        answered
    };
    click().await;
    assert_eq!(lost().await, Some(0.0));
    while lost().await == Some(0.0) {
        for _ in 0..20 {
            click().await;
        }
    }
    let before = lost().await.expect("a number");
    let mut all = 0.0;
    for _ in 0..10 {
        all = click().await;
    }
    assert_eq!(lost().await, Some(before + 10.0));
    let kept = world.metric("spool_unshipped_clicks{service=\"edge\"}").await;
    assert_eq!(kept, Some(all - before - 10.0), "each is kept or counted as lost");
    let bytes = world.metric("spool_bytes{service=\"edge\"}").await.expect("a number");
    assert!(bytes <= BOUND as f64, "{bytes}");
}

#[tokio::test]
async fn a_redirect_over_tls_has_browsers_come_by_tls_the_next_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = port::write_certificate(folder.path());
    let world = World::with(|config| config.tls = Some(port::files(folder.path()))).await;
    world.put("sale", 1, Some(route("https://shop.example")));
    let click = async || {
        let stream = port::handshake(world.address, &root, "http/1.1").await.expect("TLS");
        Connection::http1_over(stream).await.send(request("GET", "/sale", &[], "")).await
    };
    world.eventually("it redirects", async || click().await.status == 302).await;
    let answer = click().await;
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(answer.header("referrer-policy"), None, "it would hold for where it leads");
    let plain = World::start().await;
    plain.put("sale", 1, Some(route("https://shop.example")));
    let answer = plain.send("GET", "/sale", &[]).await;
    assert_eq!((answer.status, answer.header("strict-transport-security")), (302, None));
}

/// R56, R55: nothing that is no redirect is kept by anyone.
#[tokio::test]
async fn a_link_that_leads_nowhere_says_why_as_a_problem() {
    let world = World::start().await;
    let expired = Route { expire_unix_micros: 1, ..route("https://shop.example") };
    world.put("off", 1, Some(Route { enabled: false, ..route("https://shop.example") }));
    world.put("over", 1, Some(expired.clone()));
    let elsewhere = "https://shop.example/over";
    world.put(
        "moved",
        1,
        Some(Route { expired_destination_uri: elsewhere.to_owned(), status: 301, ..expired }),
    );
    for (path, status) in [
        ("/unknown", 404),
        ("/off", 404),
        ("/over", 410),
        ("/not.a.slug", 404),
        ("/%00", 404),
        ("/a/b", 404),
        ("/", 404),
    ] {
        let answer = world.send("GET", path, &[]).await;
        assert_eq!(answer.problem().0, status, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let head = world.send("HEAD", path, &[]).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    let answer = world.send("GET", "/moved", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (301, Some(elsewhere)));
    let answer = world.send("GET", "/unknown", &[("host", "other.example")]).await;
    assert_eq!(answer.problem(), (404, "NOT_FOUND".to_owned()));
    let answer = world.send("POST", "/off", &[]).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn hosts_are_read_as_browsers_write_them_and_case_as_the_domain_rules() {
    let alias = ("127.0.0.1".to_owned(), "l.example".to_owned());
    let world = World::with(|config| config.domain_aliases = [alias].into()).await;
    world.doubles.state().domains.insert("exact.example".to_owned(), true);
    let exact = ("exact.example".to_owned(), "Sale".to_owned());
    let target = route("https://shop.example");
    world.doubles.state().routes.insert(exact, (Some(target.clone()), 1));
    world.put("sale", 1, Some(target));
    for (host, path, status) in [
        ("L.Example:8080", "/SALE", 302),
        ("l.example.", "/sale", 302),
        ("127.0.0.1:99", "/sale", 302),
        ("exact.example", "/Sale", 302),
        ("exact.example", "/sale", 404),
        ("[::1]:80", "/sale", 404),
    ] {
        let answer = world.send("GET", path, &[("host", host)]).await;
        assert_eq!(answer.status, status, "{host}{path}");
    }
    let two = [("host", "l.example"), ("host", "exact.example")];
    let answer = world.send("GET", "/sale", &two).await;
    assert_eq!(
        answer.problem(),
        (400, "INVALID_FIELD".to_owned()),
        "nobody knows which one is meant"
    );
    let mut connection = Connection::http2(world.address).await;
    let answer = connection.send(request("GET", &world.uri("/sale"), &[], "")).await;
    assert_eq!(answer.status, 302, "HTTP/2 names the host in :authority");
    let other = request("GET", &world.uri("/sale"), &[("host", "exact.example")], "");
    let answer = Connection::http2(world.address).await.send(other).await;
    assert_eq!(answer.problem(), (400, "INVALID_FIELD".to_owned()), "and no other beside it");
}

/// A version as they are: microseconds since 1970, `step` later than now.
fn version(step: i64) -> i64 {
    Timestamp::now().as_microsecond() + step
}

#[tokio::test]
async fn a_change_is_served_and_what_was_before_never_returns() {
    let world = World::start().await;
    let location = async |path: &str| {
        let answer = world.send("GET", path, &[]).await;
        answer.header("location").map(str::to_owned)
    };
    let version = version(0);
    assert_eq!(location("/sale").await, None);
    let one = route("https://shop.example/1");
    world.change("sale", version, Some(one.clone())).await;
    let is_there = async || location("/sale").await.is_some();
    world.eventually("the creation is seen, though absence was remembered", is_there).await;

    let two = Route { destination_uri: "https://shop.example/2".to_owned(), ..one.clone() };
    world.change("sale", version + 10, Some(two)).await;
    let is_two = async || location("/sale").await.as_deref() == Some("https://shop.example/2");
    world.eventually("the change is seen", is_two).await;

    // An older change, and after it one that shows that it has come.
    world.announce("sale", version + 5, Some(one.clone())).await;
    assert_eq!(location("/marker").await, None);
    world.change("marker", version, Some(one)).await;
    world.eventually("the marker is seen", async || location("/marker").await.is_some()).await;
    assert!(is_two().await);

    world.change("sale", version + 20, None).await;
    world.eventually("the deletion is seen", async || location("/sale").await.is_none()).await;
}

#[tokio::test]
async fn a_resolve_overtaken_by_a_change_does_not_bring_the_old_state() {
    let world = World::start().await;
    let old = route("https://shop.example/old");
    let new = Route { destination_uri: "https://shop.example/new".to_owned(), ..old.clone() };
    world.put("first", 1, Some(old.clone()));
    world.put("sale", 1, Some(old));
    assert_eq!(world.send("GET", "/first", &[]).await.status, 302);

    let resolves = world.doubles.state().resolves;
    world.doubles.resolve_gate.forget_permits(Semaphore::MAX_PERMITS);
    let asking = async { world.send("GET", "/sale", &[]).await };
    let changing = async {
        // The old state was read, and is held on its way.
        let is_read = async || world.doubles.state().resolves > resolves;
        world.eventually("it is resolved", is_read).await;
        world.change("sale", version(0), Some(new.clone())).await;
        world.change("first", version(0), Some(new.clone())).await;
        world
            .eventually("the changes are seen", async || {
                let answer = world.send("GET", "/first", &[]).await;
                answer.header("location") == Some("https://shop.example/new")
            })
            .await;
        world.doubles.resolve_gate.add_permits(1_000);
    };
    let (answer, ()) = tokio::join!(asking, changing);
    assert_eq!(answer.header("location"), Some("https://shop.example/new"));
    let answer = world.send("GET", "/sale", &[]).await;
    assert_eq!(answer.header("location"), Some("https://shop.example/new"));
}

#[tokio::test]
async fn a_resolve_overtaken_by_the_first_link_of_a_domain_does_not_deny_the_domain() {
    let world = World::start().await;
    let (old, new) = (route("https://shop.example/old"), route("https://shop.example/new"));
    world.put("first", 1, Some(old));
    assert_eq!(world.send("GET", "/first", &[]).await.status, 302);

    let host = "new.example";
    let resolves = world.doubles.state().resolves;
    world.doubles.resolve_gate.forget_permits(Semaphore::MAX_PERMITS);
    let asking = async { world.send("GET", "/sale", &[("host", host)]).await };
    let changing = async {
        // That there is no such domain was read, and is held on its way.
        let is_read = async || world.doubles.state().resolves > resolves;
        world.eventually("it is resolved", is_read).await;
        let place = (host.to_owned(), "sale".to_owned());
        let version = version(0);
        world.doubles.state().domains.insert(host.to_owned(), false);
        world.doubles.state().routes.insert(place, (Some(new.clone()), version));
        world.announce_on(host, "sale", version, Some(new.clone())).await;
        world.change("first", version, Some(new.clone())).await;
        world
            .eventually("the changes are seen", async || {
                let answer = world.send("GET", "/first", &[]).await;
                answer.header("location") == Some("https://shop.example/new")
            })
            .await;
        world.doubles.resolve_gate.add_permits(1_000);
    };
    let (answer, ()) = tokio::join!(asking, changing);
    assert_eq!(answer.header("location"), Some("https://shop.example/new"));
    let answer = world.send("GET", "/sale", &[("host", host)]).await;
    assert_eq!(answer.header("location"), Some("https://shop.example/new"));
}

#[tokio::test]
async fn while_links_can_not_answer_what_is_remembered_is_served_and_nothing_else_is_invented() {
    let world = World::start().await;
    world.put("sale", 1, Some(route("https://shop.example")));
    // Every answer of the resolver has run out when it comes: each request reads anew.
    world.doubles.state().read_age_seconds = 31;
    assert_eq!(world.send("GET", "/sale", &[]).await.status, 302);
    world.doubles.state().is_away = true;
    assert_eq!(world.send("GET", "/sale", &[]).await.status, 302);
    let answer = world.send("GET", "/other", &[]).await;
    assert_eq!(answer.problem(), (503, "NO_ENDPOINT".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    world.doubles.state().is_away = false;
    world.put("other", 1, Some(route("https://shop.example")));
    world
        .eventually("links are asked again", async || {
            world.send("GET", "/other", &[]).await.status == 302
        })
        .await;
}
