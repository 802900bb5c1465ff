//! An etcd that asks who one is: by a password, whose token runs out under a watch, or by a certificate.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::following::Following;
use crate::world::World;
use crate::world::eventually;
use crate::world::registration;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use stack::Etcd;
use stack::EtcdOptions;
use stack::EtcdTls;
use stack::FaultProxy;
use stack::Options;
use stack::TemporaryFolder;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

const USER: &str = "mesh";
const PASSWORD: &str = "p@ss:word";
const TOKEN_LIFE: Duration = Duration::from_secs(1);

async fn etcd_with_password(folder: &Path) -> Etcd {
    let options = Options::bound(folder.join("etcd")).unwrap();
    let tokens = EtcdOptions { token_ttl: Some(TOKEN_LIFE), tls: None };
    let etcd = Etcd::start_with(options, tokens).await.unwrap();
    etcd.require_passwords(USER, PASSWORD, "linkmesh/").await.unwrap();
    etcd
}

#[tokio::test]
async fn a_token_that_runs_out_under_a_watch_costs_nothing() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = etcd_with_password(folder.path()).await;
    let connections = FaultProxy::start(etcd.address()).await.unwrap();
    let uri = format!("etcd://{USER}:p%40ss%3Aword@{}", connections.address());
    let world = World::with_registry(&uri);
    let following = Following::start(&world.registry);
    let backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    eventually("the instance", || async { mesh.view().endpoints.len() == 1 }).await;
    following.until_addresses(LINKS, &[&backend.address]).await;

    // The test's own watch, the lease, and the mesh's watches of instances and of policies.
    eventually("all connections", || async { connections.accepted() >= 4 }).await;
    let connected = connections.accepted();
    // Long enough for every token to be refused: a lease is renewed and progress asked for on streams that are open already.
    let until = Instant::now() + 4 * TOKEN_LIFE;
    while Instant::now() < until {
        assert!(!mesh.view().endpoints[0].suspect && mesh.view().age.unwrap() < TOKEN_LIFE * 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let newcomer = Backend::start(&world, "links-2", Behaviour::Answer).await;
    eventually("the newcomer", || async { mesh.view().endpoints.len() == 2 }).await;
    // A goodbye is a new request on the old connection.
    let started = Instant::now();
    backend.leave().await;
    eventually("its end", || async { mesh.view().endpoints.len() == 1 }).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let addresses = following.addresses(LINKS);
    assert_eq!(addresses, [newcomer.address.as_str()]);
    let drains = format!("{LINKS} on links-1 drains");
    assert!(following.history().contains(&drains), "it was said, not inferred");
    assert_eq!(connections.accepted(), connected + 1, "only the newcomer connected");
}

#[tokio::test]
async fn an_etcd_that_forgot_all_tokens_gives_new_ones() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = etcd_with_password(folder.path()).await;
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let uri = format!("etcd://{USER}@{}?password_file={}", etcd.address(), file.display());
    let world = World::with_registry(&uri);
    let _backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    eventually("the instance", || async { mesh.view().endpoints.len() == 1 }).await;
    // Tokens are in its memory alone.
    etcd.kill().await;
    etcd.restart().await.unwrap();
    let _newcomer = Backend::start(&world, "links-2", Behaviour::Answer).await;
    eventually("the newcomer", || async {
        let view = mesh.view();
        view.endpoints.len() == 2 && view.endpoints.iter().all(|endpoint| !endpoint.suspect)
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_finds_nobody_and_a_corrected_one_does() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = etcd_with_password(folder.path()).await;
    let file = folder.path().join("password");
    fs::write(&file, "wrong").unwrap();
    let attempts = FaultProxy::start(etcd.address()).await.unwrap();
    let uri = format!("etcd://{USER}@{}?password_file={}", attempts.address(), file.display());
    let registry = mesh::registry::open(&uri).unwrap();
    let following = Following::start(&registry);
    let _lease = registry.register(registration("links-1", "127.0.0.1:1", &[LINKS]));
    eventually("a few attempts", || async { attempts.accepted() >= 6 }).await;
    assert!(following.history().is_empty(), "{:?}", following.history());
    fs::write(&file, PASSWORD).unwrap();
    following.until_addresses(LINKS, &["127.0.0.1:1"]).await;
}

#[tokio::test]
async fn an_etcd_that_speaks_tls_is_used_with_a_certificate() {
    let folder = TemporaryFolder::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_certificates(folder.path());
    let tls = EtcdTls {
        certificate: path("server.pem"),
        key: path("server.key"),
        authority: path("authority.pem"),
    };
    let options = Options::bound(path("etcd")).unwrap();
    let etcd = Etcd::start_with(options, EtcdOptions { token_ttl: None, tls: Some(tls) });
    let etcd = etcd.await.unwrap();
    let uri = format!(
        "etcds://{}?ca_file={}&cert_file={}&key_file={}",
        etcd.address(),
        path("authority.pem").display(),
        path("client.pem").display(),
        path("client.key").display()
    );
    let registry = mesh::registry::open(&uri).unwrap();
    let following = Following::start(&registry);
    let lease = registry.register(registration("links-1", "127.0.0.1:1", &[LINKS]));
    following.until_addresses(LINKS, &["127.0.0.1:1"]).await;
    lease.withdraw().await;
    following.until_addresses(LINKS, &[]).await;

    let attempts = FaultProxy::start(etcd.address()).await.unwrap();
    let authority = path("authority.pem");
    let stranger = format!("etcds://{}?ca_file={}", attempts.address(), authority.display());
    let stranger = Following::start(&mesh::registry::open(&stranger).unwrap());
    eventually("a few attempts", || async { attempts.accepted() >= 3 }).await;
    assert!(stranger.history().is_empty(), "nobody is told without a certificate");
}

/// An authority, and a server's and a client's certificate of it.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
