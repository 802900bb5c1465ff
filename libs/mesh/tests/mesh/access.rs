//! Who is let in, who is believed, and who is taken for whom.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::naive::Naive;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::reason;
use crate::world::registration;
use mesh::Mesh;
use proto::common::v1::Scope;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use rpc::ApiKeyId;
use rpc::Permissions;
use rpc::Principal;
use rpc::Requirement;
use rpc::WorkspaceId;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::metadata::BinaryMetadataValue;

async fn call(mesh: Mesh, request: Request<GetLinkRequest>) -> Result<(), Status> {
    LinksServiceClient::new(mesh).get_link(request).await.map(|_| ())
}

fn plain() -> Request<GetLinkRequest> {
    Request::new(GetLinkRequest::default())
}

fn principal() -> Principal {
    Principal::api_key(ApiKeyId::new(), WorkspaceId::new(), Permissions::ALL)
}

fn with_principal(bytes: &[u8]) -> Request<GetLinkRequest> {
    let mut request = Request::new(GetLinkRequest::default());
    let value = BinaryMetadataValue::from_bytes(bytes);
    request.metadata_mut().insert_bin(Principal::METADATA_KEY, value);
    request
}

#[tokio::test]
async fn a_peer_that_is_not_on_the_list_is_refused() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let error = call(world.mesh("billing"), plain()).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::PermissionDenied, "PEER_NOT_ALLOWED")
    );
    assert!(error.message().contains("`billing`"), "{}", error.message());
    assert_eq!(backend.calls(), 0);
    call(world.mesh("edge"), plain()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_another_service_is_not_called() {
    let world = World::new();
    let other = Backend::unregistered(&world, "analytics", "links-1", Behaviour::Answer).await;
    let _lease = world.registry.register(registration("links-1", &other.address, &[LINKS]));
    let error = call(world.mesh("edge"), plain()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_ENDPOINT"));
    assert_eq!(other.calls(), 0);
}

/// What is held against the test above: without identities the call goes to whoever has the address now.
#[tokio::test]
async fn a_server_that_is_another_service_is_called_by_who_does_not_ask_who_it_is() {
    let world = World::new();
    let other = Backend::plaintext("analytics-1").await;
    let _lease = world.registry.register(registration("links-1", &other.address, &[LINKS]));
    let mut client = LinksServiceClient::new(Naive::plaintext(&world));
    client.get_link(plain()).await.unwrap();
    assert_eq!(other.calls(), 1);
}

#[tokio::test]
async fn a_service_that_claims_the_calls_of_another_is_not_given_them() {
    let world = World::new();
    let claimant =
        Backend::unregistered(&world, "analytics", "analytics-1", Behaviour::Answer).await;
    let mut registration = registration("analytics-1", &claimant.address, &[LINKS]);
    registration.service = "analytics".to_owned();
    let _lease = world.registry.register(registration);
    let mesh = world.mesh("edge");
    let error = call(mesh.clone(), plain()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_ENDPOINT"));
    assert_eq!(claimant.calls(), 0);

    let rightful = Backend::start(&world, "links-1", Behaviour::Answer).await;
    for _ in 0..20 {
        call(mesh.clone(), plain()).await.unwrap();
    }
    assert_eq!((claimant.calls(), rightful.calls()), (0, 20));
}

/// What a call of a gRPC service of another team comes to.
async fn call_of_widgets(mesh: &Mesh) -> Code {
    let mut client = tonic::client::Grpc::new(mesh.clone());
    let path = http::uri::PathAndQuery::from_static("/acme.v1.Widgets/Get");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let mut request = Request::new(());
    request.set_timeout(std::time::Duration::from_millis(500));
    client.unary(request, path, codec).await.unwrap_err().code()
}

#[tokio::test]
async fn who_serves_what_is_newer_than_this_program_can_be_told() {
    const WIDGETS: &str = "acme.v1.Widgets";
    // Nobody is found, or not within the call's time.
    const NOBODY: [Code; 2] = [Code::Unavailable, Code::DeadlineExceeded];
    let world = World::new();
    let backend = Backend::unregistered(&world, "analytics", "a-1", Behaviour::Answer).await;
    let mut registration = registration("a-1", &backend.address, &[WIDGETS]);
    registration.service = "analytics".to_owned();
    let _lease = world.registry.register(registration);
    let mesh = world.mesh("edge");
    let owned_by = |service: &str| [(WIDGETS.to_owned(), service.to_owned())].into();
    // It answers, if only that it serves no such method.
    let answered = call_of_widgets(&mesh).await;
    assert!(!NOBODY.contains(&answered), "any service may serve what is not known: {answered:?}");
    mesh.serve_by(owned_by("widgets")).await;
    assert!(NOBODY.contains(&call_of_widgets(&mesh).await));
    mesh.serve_by(owned_by("analytics")).await;
    assert_eq!(call_of_widgets(&mesh).await, answered);
}

#[tokio::test]
async fn another_authority_proves_nothing_in_either_direction() {
    let (world, stranger) = (World::new(), World::new());
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh_with(stranger.identity("edge"), None, &mut Default::default());
    assert_eq!(call(mesh, plain()).await.unwrap_err().code(), Code::Unavailable);
    let mesh =
        Mesh::to_one(stranger.identity("edge"), "links", &backend.address, &[LINKS]).unwrap();
    assert_eq!(call(mesh, plain()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn one_process_can_be_called_without_a_registry() {
    let world = World::new();
    let backend = Backend::unregistered(&world, "links", "links-1", Behaviour::Answer).await;
    let identity = world.identity(mesh::identity::OPERATOR);
    let mesh = Mesh::to_one(identity, "links", &backend.address, &[LINKS]).unwrap();
    call(mesh, plain()).await.unwrap();
    assert_eq!(backend.seen().peer.unwrap().service.as_str(), "operator");
}

#[tokio::test]
async fn the_edge_may_say_who_a_call_is_made_for() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let principal = principal();
    for service in ["edge", "operator"] {
        call(world.mesh(service), with_principal(&principal.encode())).await.unwrap();
        let seen = backend.seen();
        assert_eq!(seen.principal.as_ref(), Some(&principal));
        let raw = seen.metadata.get_bin(Principal::METADATA_KEY);
        assert!(raw.is_none(), "a handler finds it proved, or nowhere");
    }
    call(world.mesh("edge"), plain()).await.unwrap();
    assert_eq!(backend.seen().principal, None);
}

#[tokio::test]
async fn an_operator_calls_in_person_and_nobody_else_passes_for_one() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    call(world.mesh("operator"), plain()).await.unwrap();
    assert_eq!(backend.seen().principal, Some(Principal::operator()));
    let error = call(world.mesh("edge"), with_principal(&Principal::operator().encode()))
        .await
        .unwrap_err();
    assert_eq!(reason(&error), "PEER_NOT_ALLOWED");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_handler_is_told_what_its_method_asks() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    call(world.mesh("edge"), plain()).await.unwrap();
    assert_eq!(backend.seen().requires, Some(Requirement::Permission(Scope::LinksRead)));
}

#[tokio::test]
async fn another_peer_may_call_but_not_say_for_whom() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("analytics");
    call(mesh.clone(), plain()).await.unwrap();
    let error = call(mesh, with_principal(&principal().encode())).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::PermissionDenied, "PEER_NOT_ALLOWED")
    );
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_malformed_principal_is_refused_by_name() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let mut twice = with_principal(&principal().encode());
    let value = BinaryMetadataValue::from_bytes(&principal().encode());
    twice.metadata_mut().append_bin(Principal::METADATA_KEY, value);
    // A name that ends in "-bin" can't be written as text through tonic's types; through HTTP's it can.
    let mut headers = http::HeaderMap::new();
    headers.insert(Principal::METADATA_KEY, "%%%".parse().unwrap());
    let mut not_base64 = Request::new(GetLinkRequest::default());
    *not_base64.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    for request in [with_principal(b"\xff"), with_principal(b""), twice, not_base64] {
        let error = call(mesh.clone(), request).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "MALFORMED"));
        assert!(error.message().contains("linkmesh-principal-bin"), "{}", error.message());
    }
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_or_says_nothing_is_dropped() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    for first in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n"] {
        let mut socket = TcpStream::connect(&backend.address).await.unwrap();
        socket.write_all(first).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        // Closed or reset; not left open.
        read.expect("the server closes it").ok();
    }
}
