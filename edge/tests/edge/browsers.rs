//! What a page of another origin may do.

use super::clients::Connection;
use super::clients::request;
use super::world::World;

const ORIGIN: &str = "https://app.example";

#[tokio::test]
async fn r35_a_preflight_is_answered_and_any_other_options_is_not_one() {
    let world = World::start().await;
    let path = format!("{}/links", world.workspace());
    let headers = [
        ("origin", ORIGIN),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-grpc-web"),
    ];
    for path in [path.as_str(), "/linkmesh.links.v1.LinksService/CreateLink"] {
        let answer = world.send("OPTIONS", path, &headers).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        let allowed = answer.header("access-control-allow-headers").expect("a list");
        for name in [
            "authorization",
            "content-type",
            "x-grpc-web",
            "x-user-agent",
            "grpc-timeout",
            "if-match",
            "if-none-match",
        ] {
            assert!(allowed.split(", ").any(|listed| listed == name), "{name}: {allowed}");
        }
        assert!(answer.header("access-control-allow-methods").is_some_and(|m| m.contains("PATCH")));
    }
    let answer = world.send("OPTIONS", &path, &[("origin", ORIGIN)]).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn r35_a_page_may_read_answers_and_errors_alike() {
    let world = World::start().await;
    let bearer = world.bearer();
    let link = format!("{}/links/lnk_1", world.workspace());
    for headers in [
        &[("origin", ORIGIN), ("authorization", bearer.as_str())][..],
        &[("origin", ORIGIN)],
        &[("origin", ORIGIN), ("content-type", "application/grpc-web+json")],
    ] {
        let answer = world.send("GET", &link, headers).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").expect("a list");
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"] {
            assert!(exposed.split(", ").any(|listed| listed == name), "{name}: {exposed}");
        }
        let vary = answer.header("vary").expect("a list");
        assert!(vary.split(", ").any(|name| name.eq_ignore_ascii_case("origin")), "{vary}");
    }
    let wait = std::time::Duration::from_secs(1);
    world.doubles.state().failure = Some(rpc::Error::rate_limited("too many", wait).into());
    let headers = [("origin", ORIGIN), ("authorization", bearer.as_str())];
    let limited = world.send("GET", &format!("{}/clicks:count", world.workspace()), &headers).await;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.header("access-control-allow-origin"), Some("*"), "{limited:?}");
    assert_eq!(limited.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn r35_with_listed_origins_no_other_page_is_let_in() {
    let world = World::with(|config| config.cors_origins = vec![ORIGIN.to_owned()]).await;
    let mut connection = Connection::http1(world.address).await;
    for (origin, allowed) in [(ORIGIN, Some(ORIGIN)), ("https://evil.example", None)] {
        let asked = request("GET", "/v1/nothing/here", &[("origin", origin)], "");
        let answer = connection.send(asked).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("vary").map(str::to_ascii_lowercase).as_deref(), Some("origin"));
    }
}
