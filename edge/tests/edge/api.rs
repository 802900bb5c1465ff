//! REST, gRPC and gRPC-Web for the same methods; health and reflection without a key.

use proto::links::v1::CreateLinkRequest;
use proto::links::v1::CreateLinkResponse;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::Link;
use proto::links::v1::links_service_client::LinksServiceClient;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt as _;

use super::clients::Connection;
use super::clients::frame;
use super::clients::messages;
use super::clients::request;
use super::world::World;

const CREATE_LINK: &str = "/linkmesh.links.v1.LinksService/CreateLink";

#[tokio::test]
async fn one_port_serves_rest_grpc_and_grpc_web_over_both_versions_of_http() {
    let world = World::start().await;
    let bearer = world.bearer();
    let parent = world.workspace();
    let json = r#"{"destinationUri":"https://shop.example","tags":["a"]}"#;
    let message = CreateLinkRequest {
        parent: parent.trim_start_matches("/v1/").to_owned(),
        link: Some(Link {
            destination_uri: "https://shop.example".to_owned(),
            tags: vec!["a".to_owned()],
            ..Link::default()
        }),
        ..CreateLinkRequest::default()
    };
    let path = format!("{parent}/links");
    let json_headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let web = |content_type| {
        [("authorization", bearer.as_str()), ("content-type", content_type), ("te", "trailers")]
    };
    for version in [1, 2] {
        let (mut connection, uri) = match version {
            1 => (Connection::http1(world.address).await, String::new()),
            _ => (Connection::http2(world.address).await, world.uri("")),
        };
        let rest = request("POST", &format!("{uri}{path}"), &json_headers, json);
        let answer = connection.send(rest).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json(), serde_json::from_str::<serde_json::Value>(json).unwrap());

        for content_type in
            ["application/grpc-web", "application/grpc-web+proto", "Application/grpc-web; v=1"]
        {
            let call = request(
                "POST",
                &format!("{uri}{CREATE_LINK}"),
                &web(content_type),
                frame(&message),
            );
            let answer = connection.send(call).await;
            let links = messages::<CreateLinkResponse>(&answer.body);
            assert_eq!(
                links.first().map(|l| l.link.clone()),
                Some(message.link.clone()),
                "{answer:?}"
            );
            let trailers = answer.body.windows(14).any(|some| some == b"grpc-status:0\r");
            assert!(trailers || answer.text_lossy().contains("grpc-status"), "{answer:?}");
        }

        let call = request(
            "POST",
            &format!("{uri}{CREATE_LINK}"),
            &web("application/grpc"),
            frame(&message),
        );
        let answer = connection.send(call).await;
        if version == 1 {
            assert_eq!(answer.problem(), (415, "MEDIA_TYPE_UNSUPPORTED".to_owned()));
        } else {
            assert_eq!(messages::<CreateLinkResponse>(&answer.body)[0].link, message.link);
            assert_eq!(answer.trailers["grpc-status"], "0");
        }
    }
}

#[tokio::test]
async fn text_grpc_web_is_base64_both_ways() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let world = World::start().await;
    let bearer = world.bearer();
    let link = Some(Link { slug: "x".to_owned(), ..Link::default() });
    let message = CreateLinkRequest { link: link.clone(), ..CreateLinkRequest::default() };
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/grpc-web-text")];
    let body = engine.encode(frame(&message));
    let answer = world.send_body("POST", CREATE_LINK, &headers, body).await;
    assert_eq!(answer.header("content-type"), Some("application/grpc-web-text+proto"));
    let text = answer.text();
    // Each piece is padded for itself.
    let mut bytes = Vec::new();
    for quartet in text.as_bytes().chunks(4) {
        bytes.extend(engine.decode(quartet).expect("base64"));
    }
    assert_eq!(messages::<CreateLinkResponse>(&bytes)[0].link, link);

    let answer = world.send_body("POST", CREATE_LINK, &headers, "!!!not base64!!!").await;
    assert_eq!(answer.header("grpc-status"), Some("3"), "{answer:?}");
}

#[tokio::test]
async fn errors_of_services_keep_their_code_reason_and_field() {
    let world = World::start().await;
    let bearer = world.bearer();
    let path = format!("{}/links/missing", world.workspace());
    let answer = world.send("GET", &path, &[("authorization", &bearer)]).await;
    assert_eq!(answer.problem(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(answer.json()["code"], "NOT_FOUND");
    let mut client = LinksServiceClient::connect(world.uri("")).await.expect("it listens");
    let mut call = tonic::Request::new(GetLinkRequest { name: "missing".to_owned() });
    call.metadata_mut().insert("authorization", bearer.parse().expect("text"));
    let status = client.get_link(call).await.expect_err("it is missing");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_details_error_info().expect("an ErrorInfo").reason, "NOT_FOUND");
}

#[tokio::test]
async fn methods_that_are_not_public_are_unknown_outside() {
    let world = World::start().await;
    let bearer = world.bearer();
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut connection = Connection::http2(world.address).await;
    for path in [
        "/linkmesh.links.v1.ResolverService/Resolve",
        "/linkmesh.identity.v1.AuthenticationService/Authenticate",
        "/linkmesh.mesh.v1.MeshService/ListEndpoints",
        "/linkmesh.links.v1.LinksService/Nothing",
        "/",
    ] {
        let call = request("POST", &world.uri(path), &headers, frame(&GetLinkRequest::default()));
        let answer = connection.send(call).await;
        let status = tonic::Status::from_header_map(&answer.headers).expect("a status");
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.reason, "METHOD_UNKNOWN", "{path}");
    }
}

#[tokio::test]
async fn rest_refuses_what_it_has_no_place_for() {
    let world = World::start().await;
    let bearer = world.bearer();
    let links = format!("{}/links", world.workspace());
    let link = format!("{links}/lnk_1");
    let json = "application/json";
    for (method, path, content_type, body, status, reason) in [
        ("POST", links.as_str(), json, "{\"slug\":", 400, "MALFORMED"),
        ("POST", &links, json, "{\"slug\":1}", 400, "INVALID_FIELD"),
        ("POST", &links, json, "{\"unknown\":1}", 400, "INVALID_FIELD"),
        ("POST", &links, "text/plain", "{}", 415, "MEDIA_TYPE_UNSUPPORTED"),
        ("GET", &format!("{link}?unknown=1"), json, "", 400, "INVALID_FIELD"),
        ("GET", &format!("{link}?name=workspaces/evil/links/evil"), json, "", 400, "INVALID_FIELD"),
        ("GET", &link, json, "{}", 400, "INVALID_FIELD"),
        ("PUT", &link, json, "{}", 405, "METHOD_UNKNOWN"),
        ("GET", "/v1/nothing/here", json, "", 404, "METHOD_UNKNOWN"),
        ("GET", "/elsewhere/entirely", json, "", 404, "METHOD_UNKNOWN"),
    ] {
        let headers = [("authorization", bearer.as_str()), ("content-type", content_type)];
        let answer = world.send_body(method, path, &headers, body.to_owned()).await;
        assert_eq!(answer.problem(), (status, reason.to_owned()), "{method} {path} {body}");
    }
    let answer = world.send("PUT", &link, &[("authorization", &bearer)]).await;
    assert_eq!(answer.header("allow"), Some("DELETE, GET, HEAD, PATCH"));
    assert!(world.doubles.state().calls.is_empty(), "no service heard of any");

    let get = world.send("GET", &link, &[("authorization", &bearer)]).await;
    let head = world.send("HEAD", &link, &[("authorization", &bearer)]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-length", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

/// The fault list, 1: what a path names is what a service is asked about, whatever else is said.
#[tokio::test]
async fn r12_nothing_beside_the_path_changes_whom_a_call_is_about() {
    const EVIL: &str = "workspaces/evil/links/evil";
    let world = World::start().await;
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let link = format!("{}/links/lnk_1", world.workspace());
    let key = format!("{}/apiKeys/key_1", world.workspace());
    let evil = format!("{{\"name\":\"{EVIL}\"}}");
    for (method, path, body) in [
        ("GET", format!("{link}?name={EVIL}"), ""),
        ("GET", format!("{link}?name=x&name={EVIL}"), ""),
        ("GET", format!("{link}?%6eame={EVIL}"), ""),
        ("GET", link.clone(), evil.as_str()),
        ("PATCH", link.clone(), &evil),
        ("PATCH", format!("{link}?link.name={EVIL}"), "{}"),
        ("DELETE", format!("{link}?name={EVIL}"), ""),
        ("POST", format!("{key}:revoke"), &evil),
        ("POST", format!("{key}:revoke?name={EVIL}"), "{}"),
        ("POST", format!("{}/links?parent=workspaces/evil", world.workspace()), "{}"),
    ] {
        let answer = world.send_body(method, &path, &headers, body.to_owned()).await;
        assert_eq!(answer.problem(), (400, "INVALID_FIELD".to_owned()), "{method} {path} {body}");
    }
    for path in [format!("/{link}"), link.replace("/links/", "//links/"), format!("{link}/")] {
        let answer = world.send("GET", &path, &headers).await;
        assert_eq!(answer.problem(), (404, "METHOD_UNKNOWN".to_owned()), "{path}");
    }
    assert!(world.doubles.state().calls.is_empty(), "no service heard of any");
    for slash in ["%2F", "%2f"] {
        let path = format!("{link}{slash}..{slash}evil");
        let answer = world.send("GET", &path, &headers).await;
        let asked = answer.json()["name"].as_str().expect("a name").to_owned();
        assert_eq!(asked, path.trim_start_matches("/v1/"), "a slash that is encoded stays so");
    }
}

/// The fault list, 5: nesting without end ends at its limit.
#[tokio::test]
async fn r23_what_nests_too_deep_is_refused_before_it_is_read() {
    let world = World::start().await;
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let links = format!("{}/links", world.workspace());
    for depth in [101, 1_000_000] {
        for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
            let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let answer = world.send_body("POST", &links, &headers, body).await;
            assert_eq!(answer.problem().0, 400, "{depth} {open}");
        }
    }
    assert!(world.doubles.state().calls.is_empty(), "no service heard of any");
}

#[tokio::test]
async fn reflection_lists_what_is_public_and_health_knows_who_is_there() {
    let world = World::start().await;
    let channel = tonic::transport::Endpoint::from_shared(world.uri("")).unwrap();
    let channel = channel.connect().await.expect("it listens");
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream_once(asked)).await;
    let answer = answers.expect("no key is needed").into_inner().message().await;
    let Some(MessageResponse::ListServicesResponse(list)) =
        answer.expect("an answer").and_then(|answer| answer.message_response)
    else {
        panic!("another answer");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in [
        "linkmesh.links.v1.LinksService",
        "linkmesh.analytics.v1.AnalyticsService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{name} is missing: {names:?}");
    }
    assert!(!names.iter().any(|listed| listed.ends_with("ResolverService")));

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for (service, status) in [
        ("", Some(1)),
        ("linkmesh.links.v1.LinksService", Some(1)),
        ("linkmesh.identity.v1.WorkspacesService", Some(2)),
        ("linkmesh.links.v1.ResolverService", None),
    ] {
        let asked = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(asked).await;
        assert_eq!(answer.ok().map(|answer| answer.into_inner().status), status, "{service}");
    }
}

fn tokio_stream_once<T: Send + 'static>(
    item: T,
) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::once(std::future::ready(item))
}
