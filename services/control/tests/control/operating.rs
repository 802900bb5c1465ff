//! What operators do: tokens, certificates of their own; and what a viewer may not.

use crate::harness::World;
use crate::harness::reason;
use crate::harness::to_one;
use mesh::Identity;
use mesh::identity::Credentials;
use mesh::identity::CredentialsPem;
use mesh::identity::NewKey;
use mesh::identity::Role;
use proto::mesh::v1::CreateJoinTokenRequest;
use proto::mesh::v1::GetIdentityRequest;
use proto::mesh::v1::IssueOperatorCertificateRequest;
use proto::mesh::v1::ListJoinTokensRequest;
use proto::mesh::v1::OperatorRole;
use proto::mesh::v1::RenewCertificateRequest;
use proto::mesh::v1::certificate_service_client::CertificateServiceClient;
use proto::mesh::v1::identity_service_client::IdentityServiceClient;
use std::time::Duration;
use tonic::Code;

const HOUR: Duration = Duration::from_secs(3600);

fn token_of(services: &[&str]) -> CreateJoinTokenRequest {
    CreateJoinTokenRequest {
        services: services.iter().map(|&service| service.to_owned()).collect(),
        note: "for a test".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_token_is_listed_without_its_secret_and_by_viewers_too() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let made = world.admin(Role::Admin).create_join_token(token_of(&["links", "edge"])).await;
    let made = made.unwrap().into_inner();
    let listed = world.admin(Role::Viewer).list_join_tokens(ListJoinTokensRequest {}).await;
    let listed = listed.unwrap().into_inner().tokens;
    assert_eq!(listed, [made.token.unwrap()]);
    assert_eq!(listed[0].services, ["links", "edge"]);
    assert_eq!((listed[0].uses, listed[0].uses_max), (0, 1));
    assert!(!format!("{listed:?}").contains(made.text.split('.').nth(2).unwrap()));
    control.stop().await;
}

#[tokio::test]
async fn a_viewer_and_a_service_change_nothing() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let viewer = world.admin(Role::Viewer).create_join_token(token_of(&["links"])).await;
    let key = NewKey::generate().unwrap();
    let promotion = IssueOperatorCertificateRequest {
        role: OperatorRole::Admin.into(),
        certificate_request: key.request.clone(),
        life: None,
    };
    let promoted = world.admin(Role::Viewer).issue_operator_certificate(promotion).await;
    let links = world.mesh(world.authority().issue("links").unwrap());
    let mut service =
        proto::mesh::v1::certificate_admin_service_client::CertificateAdminServiceClient::new(
            links,
        );
    let by_service = service.create_join_token(token_of(&["edge"])).await;
    for refused in [viewer.map(drop), promoted.map(drop), by_service.map(drop)] {
        let status = refused.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "PEER_NOT_ALLOWED")
        );
    }
    control.stop().await;
}

#[tokio::test]
async fn an_operator_gets_a_certificate_that_is_let_in_and_not_renewed() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let key = NewKey::generate().unwrap();
    let request = IssueOperatorCertificateRequest {
        role: OperatorRole::Viewer.into(),
        certificate_request: key.request.clone(),
        life: None,
    };
    let issued = world.admin(Role::Admin).issue_operator_certificate(request).await;
    let issued = issued.unwrap().into_inner().certificate.unwrap();
    let pem = |ders: &[Vec<u8>]| {
        ders.iter().map(|der| mesh::identity::pem::encode("CERTIFICATE", der)).collect()
    };
    let credentials = Credentials::from_pem(&CredentialsPem {
        key: key.pem(),
        chain: pem(&issued.chain),
        roots: pem(&issued.trust.unwrap().roots),
    });
    let identity = Identity::new(credentials.unwrap()).unwrap();
    assert_eq!(identity.peer().role, Role::Viewer);

    let mut seen = IdentityServiceClient::new(to_one(identity.clone(), &control.address()));
    let seen = seen.get_identity(GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!(seen.spiffe_id, "spiffe://linkmesh/service/control");
    assert_eq!(seen.trusted_roots, [world.authority().signer().root().to_string()]);
    assert_eq!(seen.root, seen.trusted_roots[0]);

    let request = RenewCertificateRequest { certificate_request: key.request };
    let mut renewal = CertificateServiceClient::new(world.mesh(identity));
    let renewed = renewal.renew_certificate(request).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);
    control.stop().await;
}
