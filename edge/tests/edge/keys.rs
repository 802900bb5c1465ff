//! Who a call is made for: proved by a key, on every protocol, and by nothing else.

use proto::common::v1::ErrorReason;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::GetLinkResponse;
use rpc::ApiKeyId;
use rpc::Permissions;
use rpc::Principal;
use rpc::WorkspaceId;

use super::clients::Answer;
use super::clients::Connection;
use super::clients::frame;
use super::clients::messages;
use super::clients::request;
use super::world::World;

const GET_LINK: &str = "/linkmesh.links.v1.LinksService/GetLink";

/// The three protocols, each asking for the same link.
const PROTOCOLS: [&str; 3] = ["rest", "application/grpc", "application/grpc-web+proto"];

/// Asks for a link by one protocol, with these headers.
async fn get_link(world: &World, protocol: &str, headers: &[(&str, &str)]) -> Answer {
    let name = format!("{}/links/lnk_1", world.workspace());
    let mut connection = Connection::http2(world.address).await;
    if protocol == "rest" {
        return connection.send(request("GET", &world.uri(&name), headers, "")).await;
    }
    let message = GetLinkRequest { name: name.trim_start_matches("/v1/").to_owned() };
    let mut headers = headers.to_vec();
    headers.extend([("content-type", protocol), ("te", "trailers")]);
    connection.send(request("POST", &world.uri(GET_LINK), &headers, frame(&message))).await
}

/// Whether the call got through, whatever the protocol.
fn is_answered(protocol: &str, answer: &Answer) -> bool {
    if protocol == "rest" {
        return answer.status == 200 && answer.json()["name"].is_string();
    }
    messages::<GetLinkResponse>(&answer.body).first().is_some_and(|found| found.link.is_some())
}

/// The reason of a refusal, whatever the protocol.
fn reason(protocol: &str, answer: &Answer) -> String {
    if protocol == "rest" {
        return answer.problem().1;
    }
    assert_eq!((answer.status, answer.body.len()), (200, 0), "trailers only: {answer:?}");
    let status = tonic::Status::from_header_map(&answer.headers).expect("a status in the headers");
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    tonic_types::StatusExt::get_details_error_info(&status).expect("an ErrorInfo").reason
}

#[tokio::test]
async fn a_forged_principal_is_stripped_on_every_protocol() {
    let world = World::start().await;
    let forged = Principal::api_key(ApiKeyId::new(), WorkspaceId::new(), Permissions::ALL);
    let mut metadata = tonic::metadata::MetadataMap::new();
    forged.attach(&mut metadata);
    let forged = metadata.into_headers();
    let forged = forged[Principal::METADATA_KEY].to_str().expect("base64");
    let bearer = world.bearer();
    for protocol in PROTOCOLS {
        let headers = [
            ("linkmesh-principal-bin", forged),
            ("linkmesh-anything", "x"),
            ("grpc-internal-encoding-request", "x"),
            ("x-forwarded-for", "203.0.113.7"),
            ("cookie", "session=1"),
        ];
        let answer = get_link(&world, protocol, &headers).await;
        assert_eq!(reason(protocol, &answer), "CREDENTIALS_MISSING", "{protocol}");
        assert!(world.doubles.state().calls.is_empty(), "{protocol}: no service heard of it");

        let mut with_key = headers.to_vec();
        with_key.extend([
            ("authorization", bearer.as_str()),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        let answer = get_link(&world, protocol, &with_key).await;
        assert!(is_answered(protocol, &answer), "{protocol}: {answer:?}");
        let (metadata, principal) = world.doubles.state().calls.pop().expect("it was called");
        assert_eq!(principal.as_ref(), Some(&world.principal), "{protocol}");
        for name in [
            "linkmesh-anything",
            "grpc-internal-encoding-request",
            "x-forwarded-for",
            "cookie",
            "authorization",
        ] {
            assert!(metadata.get(name).is_none(), "{protocol}: {name} passed");
        }
        assert!(metadata.get("traceparent").is_some(), "{protocol}");
        assert!(metadata.get("grpc-timeout").is_some(), "{protocol}: every call has a deadline");
    }
}

#[tokio::test]
async fn a_key_that_is_missing_malformed_or_unknown_is_refused_with_its_reason() {
    let world = World::start().await;
    let unknown = auth::ApiKey::generate().expect("entropy");
    let unknown = format!("Bearer {}", unknown.reveal());
    let malformed = "Bearer lmk_short_key";
    for protocol in PROTOCOLS {
        for (headers, expected) in [
            (&[][..], ErrorReason::CredentialsMissing),
            (&[("authorization", malformed)], ErrorReason::ApiKeyInvalid),
            (&[("authorization", "Basic eDp5")], ErrorReason::ApiKeyInvalid),
            (&[("authorization", unknown.as_str())], ErrorReason::ApiKeyInvalid),
            (&[("x-api-key", "nonsense")], ErrorReason::ApiKeyInvalid),
        ] {
            let answer = get_link(&world, protocol, headers).await;
            let expected = expected.as_str_name().trim_start_matches("ERROR_REASON_");
            assert_eq!(reason(protocol, &answer), expected, "{protocol} {headers:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("lmk_short"));
            if protocol == "rest" {
                assert_eq!(answer.status, 401);
                let challenge = answer.header("www-authenticate").expect("a challenge");
                assert!(challenge.starts_with("Bearer "), "{challenge}");
            }
        }
        let answer = get_link(&world, protocol, &[("x-api-key", world.key.reveal())]).await;
        assert!(is_answered(protocol, &answer), "{protocol}");
    }
}

#[tokio::test]
async fn what_is_known_of_a_key_is_remembered_until_the_key_changes() {
    let world = World::start().await;
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str())];
    // The change below must be heard of: the follower's place is known once it made entries be read anew.
    assert!(is_answered("rest", &get_link(&world, "rest", &headers).await));
    for _ in 0..10 {
        assert!(is_answered("rest", &get_link(&world, "rest", &headers).await));
    }
    let asked = world.doubles.state().authentications;
    assert!((1..=2).contains(&asked), "{asked}");

    world.doubles.state().keys.clear();
    assert!(is_answered("rest", &get_link(&world, "rest", &headers).await), "it is remembered");
    world.announce_key(2).await;
    world
        .eventually("the revocation is heard of", async || {
            get_link(&world, "rest", &headers).await.status == 401
        })
        .await;
}

#[tokio::test]
async fn identity_that_can_not_answer_is_not_a_wrong_key() {
    let world = World::start().await;
    world.doubles.state().is_away = true;
    let bearer = world.bearer();
    let answer = get_link(&world, "rest", &[("authorization", &bearer)]).await;
    assert_ne!(answer.status, 401, "{answer:?}");
    assert!(answer.status >= 500);
}
