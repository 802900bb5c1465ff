//! How often clients may ask, and how they are told: on every protocol, at all edges, before and after they are proved.

use auth::ApiKey;
use proto::common::v1::Tier;
use proto::events::v1::SessionEnded;
use proto::events::v1::UserGrantsChanged;
use proto::links::v1::GetLinkRequest;
use rpc::SessionId;
use rpc::UserId;
use stack::Redis;
use stack::TemporaryFolder;
use tonic_types::StatusExt as _;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::frame;
use super::clients::request;
use super::tokens::claims;
use super::world::World;

const GET_LINK: &str = "/linkmesh.links.v1.LinksService/GetLink";
const WATCH_CLICKS: &str = "/linkmesh.analytics.v1.AnalyticsService/WatchClicks";
const ORIGIN: &str = "https://app.example";
/// Of an hour: no test lasts until another request is let in.
const TEN_AN_HOUR: &str = "[services.links]\nminute = 1000\nhour = 10\n";

async fn get_link(world: &World, key: &ApiKey) -> Answer {
    let link = format!("{}/links/lnk_1", world.workspace());
    let bearer = format!("Bearer {}", key.reveal());
    world.send("GET", &link, &[("authorization", &bearer), ("origin", ORIGIN)]).await
}

/// A limit's name and wait, as the details of a status have them.
fn details(status: &tonic::Status) -> (String, std::time::Duration) {
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("RATE_LIMITED", "linkmesh"));
    let quota = status.get_details_quota_failure().expect("a QuotaFailure");
    assert_eq!(quota.violations[0].subject, "key");
    let wait = status.get_details_retry_info().expect("a RetryInfo").retry_delay;
    (info.metadata["limit"].clone(), wait.expect("a wait"))
}

/// R27, R53, R55, R35.
#[tokio::test]
async fn r53_every_protocol_says_in_its_own_form_who_is_limited_and_until_when() {
    let limits = "[services.links]\nminute = 1000\nhour = 1\n\
                  [services.analytics]\nminute = 1000\nhour = 1\n";
    let world = World::limited(limits, |config| config.limits.draft_headers = true).await;
    let bearer = world.bearer();
    let first = get_link(&world, &world.key).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("x-ratelimit-limit"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(first.header("x-ratelimit-reset"), Some("3600"));
    let policy = first.header("ratelimit-policy").expect("a policy");
    assert!(policy.contains("\"free\";q=100;w=60;pk=:"), "{policy}");
    assert!(policy.contains("\"links-hour\";q=1;w=3600;pk=:"), "{policy}");
    let standing = first.header("ratelimit").expect("a standing");
    assert!(standing.starts_with("\"links-hour\";r=0;t=3600;pk=:"), "{standing}");
    let exposed = first.header("access-control-expose-headers").expect("a list");
    for name in ["retry-after", "x-ratelimit-remaining", "ratelimit-policy"] {
        assert!(exposed.split(", ").any(|listed| listed == name), "{name}: {exposed}");
    }

    let check_headers = |answer: &Answer| {
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"), "{answer:?}");
        let reset: u64 = answer.header("x-ratelimit-reset").expect("it says").parse().unwrap();
        assert!((3_000..=3_600).contains(&reset), "{reset}");
        let standing = answer.header("ratelimit").expect("a standing");
        assert!(standing.contains(&format!("-hour\";r=0;t={reset};")), "{standing}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        reset
    };
    let rest = get_link(&world, &world.key).await;
    assert_eq!(rest.problem(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(rest.json()["metadata"]["limit"], "links-hour");
    assert_eq!(rest.header("cache-control"), Some("no-store"));
    assert_eq!(rest.header("retry-after"), Some(check_headers(&rest).to_string().as_str()));

    let message = frame(&GetLinkRequest { name: "any".to_owned() });
    let mut connection = Connection::http2(world.address).await;
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", content_type),
            ("te", "trailers"),
            ("origin", ORIGIN),
        ];
        let call = request("POST", &world.uri(GET_LINK), &headers, message.clone());
        let answer = connection.send(call).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "trailers only: {answer:?}");
        let status = tonic::Status::from_header_map(&answer.headers).expect("in the headers");
        let (limit, wait) = details(&status);
        assert_eq!(limit, "links-hour");
        let reset = check_headers(&answer);
        assert_eq!(wait.as_secs() + u64::from(wait.subsec_nanos() > 0), reset);
    }

    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("origin", ORIGIN),
    ];
    let unary = world.send_body("POST", GET_LINK, &headers, "{}").await;
    assert_eq!((unary.status, &unary.json()["code"]), (429, &"resource_exhausted".into()));
    let details = unary.json()["details"].as_array().expect("details").clone();
    for name in ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.QuotaFailure"] {
        assert!(details.iter().any(|detail| detail["type"] == name), "{name}: {details:?}");
    }
    assert_eq!(unary.header("cache-control"), Some("no-store"));
    assert_eq!(unary.header("retry-after"), Some(check_headers(&unary).to_string().as_str()));

    let parent = world.workspace().trim_start_matches("/v1/").to_owned();
    let json = format!("{{\"parent\":\"{parent}\"}}");
    let length = u32::try_from(json.len()).expect("short").to_be_bytes();
    let body = [&[0], &length[..], json.as_bytes()].concat();
    let headers = [headers[0], ("content-type", "application/connect+json"), ("origin", ORIGIN)];
    let watch = world.send_body("POST", WATCH_CLICKS, &headers, body.clone()).await;
    assert_eq!(watch.header("x-ratelimit-limit"), Some("1"), "{watch:?}");
    let watch = world.send_body("POST", WATCH_CLICKS, &headers, body).await;
    assert!(watch.text_lossy().contains("\"code\":\"resource_exhausted\""), "{watch:?}");
    check_headers(&watch);
    let refused = "edge_rate_limited_total{service=\"edge\",limit=\"links-hour\"}";
    assert_eq!(world.metric(refused).await, Some(4.0));
}

/// R52.
#[tokio::test]
async fn r52_guesses_are_refused_before_anyone_is_asked_and_who_was_proved_does_not_pay_for_them() {
    let world = World::limited("[addresses]\nminute = 3\n", |_| ()).await;
    let known = &world.key;
    for _ in 0..10 {
        assert_eq!(get_link(&world, known).await.status, 200, "it is given back, or not charged");
    }
    let asked_before = world.doubles.state().authentications;
    let mut refused = None;
    let mut guesses = 0;
    // One more is let in every 20 s: a slow machine sees a few more than three.
    while refused.is_none() {
        let answer = get_link(&world, &ApiKey::generate().expect("entropy")).await;
        match answer.status {
            401 => guesses += 1,
            _ => refused = Some(answer),
        }
    }
    let refused = refused.expect("it was");
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(refused.json()["metadata"]["limit"], "address");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("3"));
    assert!(refused.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()));
    assert!(guesses >= 3);
    assert_eq!(world.doubles.state().authentications, asked_before + guesses);

    assert_eq!(get_link(&world, known).await.status, 200);
    let without = world.send("GET", "/.well-known/jwks.json", &[]).await;
    assert_eq!(without.problem().0, 429, "who says nothing pays too");
}

/// R52.
#[tokio::test]
async fn r52_who_was_proved_by_a_token_does_not_pay_for_guesses_until_its_session_is_over() {
    let world = World::limited("[addresses]\nminute = 3\n", |_| ()).await;
    let link = format!("{}/links/lnk_1", world.workspace());
    let session = SessionId::new();
    let token = world.doubles.signing_key().sign(&claims(UserId::new(), session)).unwrap();
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        world.send("GET", &link, &[("authorization", &bearer)]).await.status
    };
    // The service refuses such a user, and not the edge.
    assert_eq!(status(&token).await, 404);
    while status("a.b.c").await != 429 {}
    for _ in 0..10 {
        assert_eq!(status(&token).await, 404);
    }
    let micros = jiff::Timestamp::now().as_microsecond() + 660_000_000;
    let ended = SessionEnded {
        session_id: session.as_bytes().to_vec(),
        tokens_expire_unix_micros: micros.unsigned_abs(),
    };
    world.publish(bus::topics::SESSION_ENDS.name, &session.to_string(), &ended).await;
    // No more than any other guess is it answered for nothing.
    world.eventually("it pays", async || status(&token).await == 429).await;
}

/// R52: no answer of this edge is for nothing, because its question was a good one once.
#[tokio::test]
async fn r52_who_was_proved_and_can_not_be_proved_again_pays() {
    let world = World::limited("[addresses]\nminute = 3\n", |_| ()).await;
    let link = format!("{}/links/lnk_1", world.workspace());
    let user = UserId::new();
    let token = world.doubles.signing_key().sign(&claims(user, SessionId::new())).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(world.send("GET", &link, &headers).await.status, 404);
    world.doubles.state().is_away = true;
    let changed = UserGrantsChanged { user_id: user.as_bytes().to_vec(), version: 5 };
    let topic = bus::topics::USER_CHANGES.name;
    world
        .eventually("it pays", async || {
            world.publish(topic, &user.to_string(), &changed).await;
            world.send("GET", &link, &headers).await.status == 429
        })
        .await;
}

/// R52: what leads nowhere and what is for everyone is charged to the address, in every protocol. Only preflights are free: a page has no
/// say in them.
#[tokio::test]
async fn r52_whoever_probes_paths_pays_for_it() {
    let world = World::limited("[addresses]\nminute = 2\n", |config| {
        config.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let bearer = world.bearer();
    let links = format!("{}/links", world.workspace());
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let connect = [("content-type", "application/json")];
    for (nth, (method, path, headers, status)) in [
        ("GET", "/v1/nothing/here", &[][..], 404),
        ("GET", "/elsewhere/entirely", &[], 404),
        ("PUT", &*links, &[], 405),
        ("POST", "/sale", &[], 405),
        ("OPTIONS", &links, &[], 405),
        ("POST", "/linkmesh.links.v1.ResolverService/Resolve", &connect, 404),
        ("POST", "/linkmesh.links.v1.ResolverService/Resolve", &grpc, 200),
        ("GET", "/docs", &[], 200),
        ("HEAD", "/v1/openapi.json", &[], 200),
    ]
    .into_iter()
    .enumerate()
    {
        let address = format!("203.0.113.{nth}");
        // That a key is there makes it no better.
        let more = [("x-forwarded-for", address.as_str()), ("authorization", &bearer)];
        let headers: Vec<_> = headers.iter().copied().chain(more).collect();
        let mut connection = Connection::http2(world.address).await;
        let mut send = async || {
            let answer = connection.send(request(method, &world.uri(path), &headers, "")).await;
            let refused = answer.header("grpc-status") == Some("8");
            if refused { 429 } else { answer.status }
        };
        let mut answered = 0;
        let last = loop {
            match send().await {
                said if said == status => answered += 1,
                other => break other,
            }
        };
        assert_eq!(last, 429, "{method} {path}");
        // One more is let in every 30 s.
        assert!((2..=4).contains(&answered), "{method} {path}: {answered}");
        let preflight = [
            ("x-forwarded-for", address.as_str()),
            ("origin", ORIGIN),
            ("access-control-request-method", "POST"),
        ];
        for _ in 0..5 {
            assert_eq!(world.send("OPTIONS", &links, &preflight).await.status, 204);
        }
    }
    assert_eq!(get_link(&world, &world.key).await.status, 200, "from another address");
}

/// R42, R52: what is malformed costs what any call costs.
#[tokio::test]
async fn r52_a_timeout_that_is_none_is_not_refused_for_free() {
    let world = World::limited("[services.links]\nminute = 1000\nhour = 3\n", |_| ()).await;
    let link = format!("{}/links/lnk_1", world.workspace());
    let bearer = world.bearer();
    let rest = [("authorization", bearer.as_str()), ("x-server-timeout", "nan")];
    let connect = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("connect-timeout-ms", "soon"),
    ];
    assert_eq!(world.send("GET", &link, &rest).await.status, 400);
    assert_eq!(world.send_body("POST", GET_LINK, &connect, "{}").await.status, 400);
    assert_eq!(get_link(&world, &world.key).await.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(world.send("GET", &link, &rest).await.status, 429);
    assert_eq!(world.send_body("POST", GET_LINK, &connect, "{}").await.status, 429);
}

/// R52: a watch lasts for an hour.
#[tokio::test]
async fn r52_health_is_free_to_ask_for_and_not_to_watch() {
    let world = World::limited("[addresses]\nminute = 1\n", |_| ()).await;
    while world.send("GET", "/.well-known/jwks.json", &[]).await.status != 429 {}
    let mut connection = Connection::http2(world.address).await;
    for (method, code) in [
        ("Check", tonic::Code::Ok),
        ("Watch", tonic::Code::ResourceExhausted),
        ("Check", tonic::Code::Ok),
    ] {
        let message = frame(&tonic_health::pb::HealthCheckRequest::default());
        let path = world.uri(&format!("/grpc.health.v1.Health/{method}"));
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = connection.send(request("POST", &path, &headers, message)).await;
        let refusal = tonic::Status::from_header_map(&answer.headers);
        let said = refusal.map_or(tonic::Code::Ok, |status| status.code());
        assert_eq!(said, code, "{method}: {answer:?}");
    }
}

/// R50: one set of buckets for all edges.
#[tokio::test]
async fn r50_a_key_has_one_limit_at_all_edges() {
    let folder = TemporaryFolder::new().expect("a folder");
    let options = stack::Options::bound(folder.path().join("redis")).expect("a port");
    let redis = Redis::start(options).await.expect("Redis starts");
    let patiently = |config: &mut edge::Config| {
        config.redis = Some(redis.url());
        // A busy machine is no Redis that is away.
        config.limits.wait_max = std::time::Duration::from_secs(1);
    };
    let one = World::limited(TEN_AN_HOUR, patiently).await;
    let other = World::limited(TEN_AN_HOUR, patiently).await;
    let principal = (one.principal.clone(), 1);
    other.doubles.state().keys.insert(one.key.reveal().to_owned(), principal);
    other.doubles.state().workspace = one.doubles.state().workspace;
    let local = "edge_limits_local{service=\"edge\"}";
    for world in [&one, &other] {
        let is_shared = async || world.metric(local).await == Some(0.0);
        world.eventually("the edge asks Redis", is_shared).await;
    }
    let mut let_in = 0;
    for _ in 0..10 {
        for world in [&one, &other] {
            let_in += usize::from(get_link(world, &one.key).await.status == 200);
        }
    }
    assert_eq!(let_in, 10);
}

#[tokio::test]
async fn limits_change_without_a_restart_and_what_can_not_be_used_changes_nothing() {
    let world = World::limited("", |_| ()).await;
    let limit = async || {
        let answer = get_link(&world, &world.key).await;
        answer.header("x-ratelimit-limit").map(str::to_owned)
    };
    assert_eq!(limit().await.as_deref(), Some("100"), "of the lowest tier");
    world.limit("[tiers]\nfree = 5000\n");
    world.eventually("it holds", async || limit().await.as_deref() == Some("5000")).await;
    world.limit("[tiers]\nfree = 0\n");
    let refused = "edge_limits_reloads_total{service=\"edge\",result=\"refused\"}";
    world.eventually("it is said", async || world.metric(refused).await == Some(1.0)).await;
    assert_eq!(limit().await.as_deref(), Some("5000"));

    let (principal, version) = world.doubles.state().keys[world.key.reveal()].clone();
    let premium = rpc::Principal { tier: Tier::Premium, ..principal };
    let key = ApiKey::generate().expect("entropy");
    world.doubles.state().keys.insert(key.reveal().to_owned(), (premium, version));
    let answer = get_link(&world, &key).await;
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1000"), "of its own tier");
}

#[tokio::test]
async fn a_redirect_is_limited_by_its_address_at_this_edge() {
    let trusting = |config: &mut edge::Config| {
        config.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
        // Nothing is there, and nobody is asked.
        config.limits.redis = Some("redis://127.0.0.1:1".to_owned());
    };
    let world = World::limited("[redirects]\nsecond = 1\n", trusting).await;
    world.put("sale", 1, Some(super::world::route("https://shop.example")));
    let click = async |address| world.send("GET", "/sale", &[("x-forwarded-for", address)]).await;
    let mut redirected = 0;
    let refused = loop {
        let answer = click("203.0.113.7").await;
        match answer.status {
            302 => redirected += 1,
            _ => break answer,
        }
    };
    assert!(redirected >= 1);
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(click("203.0.113.8").await.status, 302, "another address");
    assert_eq!(world.clicks(redirected + 1).await.len(), redirected + 1, "no click without one");
}
