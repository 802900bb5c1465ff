//! Pods that join by the tokens of their service accounts.

use crate::cluster::ISSUER;
use crate::cluster::KeyServer;
use crate::cluster::SigningKey;
use crate::cluster::claims;
use crate::harness::Control;
use crate::harness::World;
use crate::harness::reason;
use control::Config;
use control::KubernetesConfig;
use jiff::Timestamp;
use mesh::Identity;
use mesh::identity::Credential;
use mesh::identity::Issuer;
use mesh::identity::NewKey;
use mesh::identity::Root;
use proto::mesh::v1::JoinRequest;
use proto::mesh::v1::join_request::Credential as Sent;
use proto::mesh::v1::join_service_client::JoinServiceClient;
use serde_json::Value;
use serde_json::json;
use tonic::Code;
use tonic::Status;

fn now() -> i64 {
    Timestamp::now().as_second()
}

async fn control(world: &World, jwks: String) -> Control {
    let kubernetes = KubernetesConfig {
        issuer: ISSUER.to_owned(),
        audience: "linkmesh".to_owned(),
        jwks,
        jwks_root: None,
        jwks_token: None,
        accounts: [("shop/links".to_owned(), vec!["links".to_owned()])].into(),
    };
    world.control_with(Config { kubernetes: Some(kubernetes), ..Config::default() }).await
}

async fn join(world: &World, service: &str, token: String) -> Result<(), Status> {
    let pins = [world.authority().signer().root()];
    let mesh = world.mesh(Identity::anonymous(&pins).unwrap());
    let request = JoinRequest {
        service: service.to_owned(),
        certificate_request: NewKey::generate().unwrap().request,
        credential: Some(Sent::KubernetesToken(token)),
    };
    JoinServiceClient::new(mesh).join(request).await.map(drop)
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_pod_joins_by_its_service_accounts_token_whichever_way_it_is_signed() {
    let world = World::new();
    let (rsa, ecdsa) = (SigningKey::rs256("rsa-1"), SigningKey::es256("ec-1"));
    let server = KeyServer::start(&[&rsa, &ecdsa]).await;
    let control = control(&world, format!("http://{}/openid/v1/jwks", server.address)).await;
    for key in [&rsa, &ecdsa] {
        let token = world.file("token", &key.sign(&claims("shop/links", now())));
        let root = Root::File(mesh::LocalAuthority::root_file(&world.authority_folder()));
        let issuer = Issuer::Control {
            addresses: Vec::new(),
            credential: Some(Credential::Kubernetes(token)),
            root: Some(root),
        };
        std::fs::remove_file(world.kept("links")).ok();
        let identity = world.issuing("links", issuer).first().await.unwrap();
        assert_eq!(identity.service(), "links");
    }
    assert_eq!(server.asked(), 1, "the keys are remembered");
    control.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said() {
    let world = World::new();
    let (key, strange) = (SigningKey::es256("ec-1"), SigningKey::es256("ec-1"));
    let unknown = SigningKey::es256("ec-2");
    let server = KeyServer::start(&[&key]).await;
    let control = control(&world, format!("http://{}/", server.address)).await;
    let good = claims("shop/links", now());
    let cases = [
        (key.sign(&with(good.clone(), "exp", json!(now() - 60))), "run out"),
        (key.sign(&with(good.clone(), "nbf", json!(now() + 60))), "not valid yet"),
        (key.sign(&with(good.clone(), "aud", json!(["vault"]))), "audience"),
        (key.sign(&with(good.clone(), "iss", json!("https://other"))), "issued by"),
        (key.sign(&with(good.clone(), "sub", json!("system:serviceaccount:x:y"))), "subject"),
        (key.sign(&json!({"iss": ISSUER, "aud": "linkmesh"})), "token"),
        (strange.sign(&good), "signature"),
        (unknown.sign(&good), "none of the cluster's"),
        ("a.b.c".to_owned(), "malformed"),
        (String::new(), "malformed"),
    ];
    for (token, expected) in cases {
        let status = join(&world, "links", token).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unauthenticated, "KUBERNETES_TOKEN_INVALID"),
            "{expected}: {status:?}"
        );
        assert!(status.message().contains(expected), "{expected}: {}", status.message());
    }
    // A minute's difference is too much, a few seconds' is not.
    join(&world, "links", key.sign(&with(good.clone(), "exp", json!(now() - 5)))).await.unwrap();

    for (account, service) in [("shop/links", "edge"), ("other/links", "links"), ("shop/x", "x")] {
        let status = join(&world, service, key.sign(&claims(account, now()))).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "JOIN_NOT_ALLOWED")
        );
        assert!(status.message().contains(account), "{}", status.message());
    }
    control.stop().await;
}

#[tokio::test]
async fn a_new_key_of_the_cluster_is_found_and_made_up_ones_do_not_make_control_ask() {
    let world = World::new();
    let (first, second) = (SigningKey::es256("ec-1"), SigningKey::rs256("rsa-2"));
    let server = KeyServer::start(&[&first]).await;
    let control = control(&world, format!("http://{}/", server.address)).await;
    join(&world, "links", first.sign(&claims("shop/links", now()))).await.unwrap();
    for number in 0..10 {
        let made_up = SigningKey::es256(&format!("made-up-{number}"));
        join(&world, "links", made_up.sign(&claims("shop/links", now()))).await.unwrap_err();
    }
    assert!(server.asked() <= 2, "asked {} times", server.asked());

    server.show(&[&first, &second]);
    crate::harness::eventually("the new key is known", || async {
        join(&world, "links", second.sign(&claims("shop/links", now()))).await.is_ok()
    })
    .await;
    control.stop().await;
}

#[tokio::test]
async fn the_keys_may_be_in_a_file_and_away_for_a_while() {
    let world = World::new();
    let key = SigningKey::es256("ec-1");
    let path = world.folder.path().join("jwks.json");
    let control = control(&world, path.display().to_string()).await;
    let token = || key.sign(&claims("shop/links", now()));
    let status = join(&world, "links", token()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    let server = KeyServer::start(&[&key]).await;
    world.file("jwks.json", &server.text());
    crate::harness::eventually("the keys are read", || async {
        join(&world, "links", token()).await.is_ok()
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    join(&world, "links", token()).await.unwrap();
    control.stop().await;
}
