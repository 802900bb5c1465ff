//! The first certificate of a process.

use crate::harness::PATIENCE;
use crate::harness::World;
use crate::harness::reason;
use crate::harness::to_one;
use mesh::Identity;
use mesh::identity::Credential;
use mesh::identity::Fingerprint;
use mesh::identity::Issuer;
use mesh::identity::JoinToken;
use mesh::identity::NewKey;
use mesh::identity::Role;
use proto::mesh::v1::GetIdentityRequest;
use proto::mesh::v1::JoinRequest;
use proto::mesh::v1::JoinResponse;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::RenewCertificateRequest;
use proto::mesh::v1::certificate_service_client::CertificateServiceClient;
use proto::mesh::v1::identity_service_client::IdentityServiceClient;
use proto::mesh::v1::join_request::Credential as Sent;
use proto::mesh::v1::join_service_client::JoinServiceClient;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tonic::Code;
use tonic::Status;

const HOUR: Duration = Duration::from_secs(3600);

/// Joins by hand, over a channel whose identity is anyone's.
async fn join(
    mesh: mesh::Mesh,
    service: &str,
    key: &NewKey,
    credential: Option<Sent>,
) -> Result<JoinResponse, Status> {
    let request = JoinRequest {
        service: service.to_owned(),
        certificate_request: key.request.clone(),
        credential,
    };
    JoinServiceClient::new(mesh).join(request).await.map(tonic::Response::into_inner)
}

fn text(token: &Path) -> Option<Sent> {
    Some(Sent::JoinToken(std::fs::read_to_string(token).unwrap()))
}

/// Who knows the root, and has no certificate.
fn anonymous(world: &World) -> mesh::Mesh {
    let pins = [world.authority().signer().root()];
    world.mesh(Identity::anonymous(&pins).unwrap())
}

#[tokio::test]
async fn a_process_joins_by_a_token_and_is_who_the_token_says() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let token = world.token(&["links"], 1).await;
    let identity = world.joining("links", &token).first().await.unwrap();
    let certificate = identity.certificate().unwrap();
    assert_eq!(certificate.spiffe_id, "spiffe://linkmesh/service/links");
    assert_eq!(certificate.root, Some(world.authority().signer().root()));
    assert!(certificate.issuer.contains("linkmesh issuer"), "{}", certificate.issuer);
    assert_eq!(certificate.source, "control:");
    let mode = std::fs::metadata(world.kept("links")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // It is let in with it, and renews it.
    let mut renewal = CertificateServiceClient::new(world.mesh(identity));
    let request =
        RenewCertificateRequest { certificate_request: NewKey::generate().unwrap().request };
    renewal.renew_certificate(request).await.unwrap();
    control.stop().await;
}

#[tokio::test]
async fn a_process_that_starts_before_control_joins_when_it_is_there() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let token = world.token(&["links"], 1).await;
    control.stop().await;
    let issuing = world.joining("links", &token);
    let first = async { issuing.first().await.unwrap() };
    let started = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.control(HOUR).await
    };
    let (identity, control) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(first, started) }).await.unwrap();
    assert_eq!(identity.service(), "links");
    control.stop().await;
}

#[tokio::test]
async fn control_can_be_named_instead_of_found() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let credential = Some(Credential::Token(world.token(&["links"], 1).await));
    let addresses = vec![control.address()];
    let elsewhere = mesh::registry::open("memory:").unwrap();
    let issuing = Issuer::Control { addresses, credential, root: None }
        .of_service("links", elsewhere, world.kept("links"))
        .unwrap();
    assert_eq!(issuing.first().await.unwrap().service(), "links");
    control.stop().await;
}

#[tokio::test]
async fn without_a_certificate_only_join_can_be_called() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let pins = [world.authority().signer().root()];
    let channel = || to_one(Identity::anonymous(&pins).unwrap(), &control.address());
    let refused = [
        MeshServiceClient::new(channel())
            .list_endpoints(ListEndpointsRequest::default())
            .await
            .map(drop),
        IdentityServiceClient::new(channel()).get_identity(GetIdentityRequest {}).await.map(drop),
        CertificateServiceClient::new(channel())
            .renew_certificate(RenewCertificateRequest {
                certificate_request: NewKey::generate().unwrap().request,
            })
            .await
            .map(drop),
    ];
    for answer in refused {
        let status = answer.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "PEER_NOT_ALLOWED")
        );
    }
    control.stop().await;
}

#[tokio::test]
async fn a_token_that_was_used_by_another_key_is_refused_and_by_the_same_key_is_not() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let token = world.token(&["links"], 1).await;
    let key = NewKey::generate().unwrap();
    for _ in 0..2 {
        join(anonymous(&world), "links", &key, text(&token)).await.unwrap();
    }
    let other = NewKey::generate().unwrap();
    let status = join(anonymous(&world), "links", &other, text(&token)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "JOIN_TOKEN_INVALID")
    );
    assert!(status.message().contains("used up"), "{}", status.message());
    control.stop().await;
}

#[tokio::test]
async fn what_is_no_credential_or_not_for_that_service_joins_nobody() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let token = world.token(&["links"], 1).await;
    let revoked = world.token(&["links"], 1).await;
    let id = JoinToken::parse(&std::fs::read_to_string(&revoked).unwrap()).unwrap().id;
    let request = proto::mesh::v1::RevokeJoinTokenRequest { id };
    world.admin(Role::Admin).revoke_join_token(request).await.unwrap();
    let made_up = JoinToken::generate(vec![Fingerprint::of(b"root")]).text();

    let key = NewKey::generate().unwrap();
    let (unauthenticated, denied) = (Code::Unauthenticated, Code::PermissionDenied);
    let cases = [
        ("links", None, unauthenticated, "CREDENTIALS_MISSING"),
        ("links", text(&revoked), unauthenticated, "JOIN_TOKEN_INVALID"),
        ("links", Some(Sent::JoinToken(made_up)), unauthenticated, "JOIN_TOKEN_INVALID"),
        ("links", Some(Sent::JoinToken(String::new())), unauthenticated, "JOIN_TOKEN_INVALID"),
        ("edge", text(&token), denied, "JOIN_NOT_ALLOWED"),
        ("control", text(&token), Code::InvalidArgument, "INVALID_FIELD"),
        ("operator", text(&token), Code::InvalidArgument, "INVALID_FIELD"),
        (
            "links",
            Some(Sent::KubernetesToken(String::new())),
            Code::FailedPrecondition,
            "NOT_CONFIGURED",
        ),
    ];
    for (service, credential, code, expected) in cases {
        let status = join(anonymous(&world), service, &key, credential).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    }
    let forged = NewKey::generate().unwrap();
    let request = JoinRequest {
        service: "links".to_owned(),
        certificate_request: forged.request[1..].to_vec(),
        credential: text(&token),
    };
    let status = JoinServiceClient::new(anonymous(&world)).join(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert!(status.message().contains("certificate_request"), "{}", status.message());
    control.stop().await;
}

#[tokio::test]
async fn a_process_gives_its_token_to_nobody_but_the_control_that_it_pins() {
    let (world, stranger) = (World::new(), World::new());
    let control = world.control(HOUR).await;
    let impostor = stranger.control(HOUR).await;
    let credential = Some(Credential::Token(world.token(&["links"], 1).await));
    // Whoever is at that address leads to another root.
    let issuing = Issuer::Control { addresses: vec![impostor.address()], credential, root: None }
        .of_service("links", mesh::registry::open("memory:").unwrap(), world.kept("links"))
        .unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(3), issuing.first()).await;
    assert!(joined.is_err(), "it goes on trying, and does not join there");
    let tokens = world
        .admin(Role::Admin)
        .list_join_tokens(proto::mesh::v1::ListJoinTokensRequest {})
        .await
        .unwrap()
        .into_inner()
        .tokens;
    assert_eq!(tokens[0].uses, 0);
    control.stop().await;
    impostor.stop().await;
}
