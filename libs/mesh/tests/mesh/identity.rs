//! Certificates and roots that change while calls are made; and what is not believed.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use jiff::Timestamp;
use mesh::Identity;
use mesh::Mesh;
use mesh::PeerIdentity;
use mesh::identity::Issuer;
use mesh::identity::Role;
use mesh::identity::Rotation;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tonic::Code;
use tonic::Status;

const HOUR: Duration = Duration::from_secs(3600);
/// How long a certificate of these tests lives: renewed after about two seconds.
const SHORT: Duration = Duration::from_secs(3);

/// One whose roots are looked at every second, and which is replaced within two when its root issues no more.
const LONGER: Duration = Duration::from_secs(20);

async fn get(mesh: &Mesh) -> Result<(), Status> {
    LinksServiceClient::new(mesh.clone()).get_link(GetLinkRequest::default()).await.map(drop)
}

/// Not safe to repeat: nothing hides a failure of it.
async fn create(mesh: &Mesh) -> Result<(), Status> {
    LinksServiceClient::new(mesh.clone()).create_link(CreateLinkRequest::default()).await.map(drop)
}

/// An identity that renews itself, and the mesh under it.
struct Member {
    identity: Identity,
    mesh: Mesh,
    _renewal: DropGuard,
}

async fn member(world: &World, service: &str, life: Duration) -> Member {
    let issuer = Issuer::File { folder: world.file("authority"), life };
    let kept = world.file(&format!("{service}.json"));
    let issuing = issuer.of_service(service, Arc::clone(&world.registry), kept).unwrap();
    let identity = issuing.first().await.unwrap();
    let mesh = world.mesh_with(identity.clone(), None, &mut Metrics::default());
    let stop = CancellationToken::new();
    let renewing = issuing.renew(identity.clone(), mesh.clone(), stop.clone());
    #[expect(clippy::disallowed_methods, reason = "the guard ends it")]
    tokio::spawn(async move { renewing.await.unwrap() });
    Member { identity, mesh, _renewal: stop.drop_guard() }
}

/// Calls without a pause until it is stopped; what failed.
struct Load {
    stop: CancellationToken,
    calls: JoinSet<usize>,
    failures: Arc<Mutex<Vec<Status>>>,
}

impl Load {
    fn start(mesh: &Mesh) -> Self {
        let (stop, failures) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let mut calls = JoinSet::new();
        for _ in 0..8 {
            let (mesh, stop, failures) = (mesh.clone(), stop.clone(), Arc::clone(&failures));
            calls.spawn(async move {
                let mut made = 0;
                while !stop.is_cancelled() {
                    if let Err(status) = create(&mesh).await {
                        failures.lock().unwrap().push(status);
                    }
                    made += 1;
                }
                made
            });
        }
        Self { stop, calls, failures }
    }

    async fn stop(self) -> usize {
        self.stop.cancel();
        let made = self.calls.join_all().await.into_iter().sum();
        let failures = self.failures.lock().unwrap();
        assert!(
            failures.is_empty(),
            "{} of {made} calls failed: {:?}",
            failures.len(),
            failures[0]
        );
        made
    }
}

fn issue(world: &World, peer: &PeerIdentity, life: Duration, now: Timestamp) -> Identity {
    Identity::new(world.authority.issue_to(peer, life, now).unwrap()).unwrap()
}

#[tokio::test]
async fn certificates_that_rotate_under_load_fail_no_call() {
    let world = World::new();
    let (links, edge) = (member(&world, "links", SHORT).await, member(&world, "edge", SHORT).await);
    let backend = Backend::start_as(&world, links.identity.clone(), "links-1").await;
    let load = Load::start(&edge.mesh);
    let rotated = |member: &Member| member.identity.certificate().unwrap().rotations >= 3;
    eventually("both rotate three times", || async { rotated(&links) && rotated(&edge) }).await;
    let made = load.stop().await;
    assert_eq!(backend.calls(), made);
    let view = edge.identity.certificate().unwrap();
    assert_eq!(view.last_failure, "");
    assert!(view.validity.not_after > Timestamp::now());
}

#[tokio::test]
async fn a_root_that_is_replaced_under_load_fails_no_call() {
    let world = World::new();
    let folder = world.file("authority");
    let first = world.authority.signer().root();
    let (links, edge) =
        (member(&world, "links", LONGER).await, member(&world, "edge", LONGER).await);
    let backend = Backend::start_as(&world, links.identity.clone(), "links-1").await;
    let load = Load::start(&edge.mesh);
    let everyone = [&links, &edge];
    let views = || everyone.map(|member| member.identity.certificate().unwrap());

    let second = Rotation::prepare(&folder, Timestamp::now()).unwrap();
    eventually("everyone trusts both roots", || async {
        views()
            .iter()
            .all(|view| view.roots.iter().any(|root| root.fingerprint == second.to_string()))
    })
    .await;
    assert!(views().iter().all(|view| view.root == Some(first)));

    Rotation::activate(&folder).unwrap();
    eventually("everyone has a certificate of the second root", || async {
        views().iter().all(|view| view.root == Some(second))
    })
    .await;

    Rotation::finish(&folder).unwrap();
    eventually("everyone trusts the second root alone", || async {
        views().iter().all(|view| view.roots.len() == 1 && view.root == Some(second))
    })
    .await;
    // Connections that were opened under the first root are over, and others in their place.
    get(&edge.mesh).await.unwrap();
    let made = load.stop().await;
    assert_eq!(backend.calls(), made + 1);
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_refused_on_both_sides() {
    let world = World::new();
    let past = Timestamp::now() - 2 * HOUR;
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let edge = issue(&world, &PeerIdentity::service("edge").unwrap(), HOUR, past);
    let mesh = Mesh::to_one(edge, "links", &backend.address, &[LINKS]).unwrap();
    assert_eq!(get(&mesh).await.unwrap_err().code(), Code::Unavailable);

    let links = issue(&world, &PeerIdentity::service("links").unwrap(), HOUR, past);
    let expired = Backend::start_as(&world, links, "links-2").await;
    let mesh = Mesh::to_one(world.identity("edge"), "links", &expired.address, &[LINKS]).unwrap();
    assert_eq!(get(&mesh).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(backend.calls() + expired.calls(), 0);
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_trust_that_it_was_opened_with() {
    let (world, stranger) = (World::new(), World::new());
    let links = world.identity("links");
    let backend = Backend::start_as(&world, links.clone(), "links-1").await;
    let mesh = world.mesh("edge");
    get(&mesh).await.unwrap();
    // The server trusts another root from now on: what the open connection has proved counts no longer.
    let peer = PeerIdentity::service("links").unwrap();
    links.replace(stranger.authority.issue_to(&peer, HOUR, Timestamp::now()).unwrap()).unwrap();
    eventually("the peer is refused", || async { get(&mesh).await.is_err() }).await;
    let calls = backend.calls();
    assert!(get(&mesh).await.is_err());
    assert_eq!(backend.calls(), calls);
}

#[tokio::test]
async fn credentials_of_someone_else_or_of_no_trusted_root_replace_nothing() {
    let (world, stranger) = (World::new(), World::new());
    let links = world.identity("links");
    let edge = PeerIdentity::service("edge").unwrap();
    let others = world.authority.issue_to(&edge, HOUR, Timestamp::now()).unwrap();
    let error = links.replace(others).unwrap_err();
    assert!(error.to_string().contains("`edge`, not of `links`"), "{error}");
    assert_eq!(links.certificate().unwrap().rotations, 0);
    drop(stranger);
}

#[tokio::test]
async fn a_viewer_may_look_and_change_nothing() {
    let world = World::new();
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let channel = |role| {
        let operator = issue(&world, &PeerIdentity::operator(role), HOUR, Timestamp::now());
        Mesh::to_one(operator, "links", &backend.address, &[LINKS]).unwrap()
    };
    let (admin, viewer) = (channel(Role::Admin), channel(Role::Viewer));
    get(&admin).await.unwrap();
    create(&admin).await.unwrap();
    get(&viewer).await.unwrap();
    assert_eq!(backend.seen().peer.unwrap().role, Role::Viewer);
    let refused = create(&viewer).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "PEER_NOT_ALLOWED")
    );
    assert!(refused.message().contains("operator/viewer"), "{}", refused.message());
    assert_eq!(backend.calls(), 3);
}

#[tokio::test]
async fn without_control_and_without_a_credential_a_process_says_what_is_missing() {
    let world = World::new();
    let issuing = Issuer::parse("control:127.0.0.1:1")
        .unwrap()
        .of_service("links", Arc::clone(&world.registry), Path::new("none.json").to_owned())
        .unwrap();
    let first = tokio::time::timeout(PATIENCE, issuing.first()).await.unwrap();
    let error = first.unwrap_err();
    assert!(error.to_string().contains("mesh.join_token"), "{error}");
}
