//! A control that runs in this process, and processes that join it.

use control::Config;
use jiff::Timestamp;
use mesh::Identity;
use mesh::LocalAuthority;
use mesh::Mesh;
use mesh::MeshOptions;
use mesh::PeerIdentity;
use mesh::Registry;
use mesh::identity::Credential;
use mesh::identity::Issuer;
use mesh::identity::Issuing;
use mesh::identity::Role;
use prometheus_client::registry::Registry as Metrics;
use proto::mesh::v1::CreateJoinTokenRequest;
use proto::mesh::v1::certificate_admin_service_client::CertificateAdminServiceClient;
use proto::mesh::v1::certificate_admin_service_server;
use service::Addresses;
use service::Host;
use service::HostConfig;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const ANY_PORT: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// What the processes of a test have in common.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) registry: Arc<dyn Registry>,
}

/// A control that runs; killed when dropped.
pub(crate) struct Control {
    pub(crate) addresses: Addresses,
    stop: CancellationToken,
    run: JoinHandle<anyhow::Result<()>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, registry: mesh::registry::open("memory:").unwrap() }
    }

    pub(crate) fn authority_folder(&self) -> PathBuf {
        self.folder.path().join("authority")
    }

    pub(crate) fn authority(&self) -> LocalAuthority {
        LocalAuthority::open_or_create(&self.authority_folder()).unwrap()
    }

    /// A control whose certificates live so long.
    pub(crate) async fn control(&self, life: Duration) -> Control {
        self.control_with(Config { certificate_life: life, ..Config::default() }).await
    }

    pub(crate) async fn control_with(&self, config: Config) -> Control {
        let mut host = HostConfig::default();
        host.host.instance = Some("control-1".to_owned());
        host.host.data = self.folder.path().join("control-1");
        host.host.admin_listen = ANY_PORT;
        let (folder, life) = (self.authority_folder(), config.certificate_life);
        let config = Config { authority: Some(folder.clone()), ..config };
        let (ready, is_ready) = oneshot::channel();
        let host = Host::new(host, "1")
            .with_registry(Arc::clone(&self.registry))
            .issued_by(control::NAME, Issuer::File { folder, life })
            .add(control::NAME, ANY_PORT, |cx| control::assemble(config, cx))
            .tell_when_ready(ready);
        let stop = CancellationToken::new();
        let run = spawn(host.run(stop.clone()));
        match tokio::time::timeout(PATIENCE, is_ready).await.unwrap() {
            Ok(addresses) => Control { addresses, stop, run },
            Err(_) => panic!("control did not start: {:?}", run.await),
        }
    }

    /// The channel of an operator.
    pub(crate) fn operator(&self, role: Role) -> Mesh {
        let peer = PeerIdentity::operator(role);
        let hour = Duration::from_secs(3600);
        let credentials = self.authority().issue_to(&peer, hour, Timestamp::now()).unwrap();
        self.mesh(Identity::new(credentials).unwrap())
    }

    pub(crate) fn mesh(&self, identity: Identity) -> Mesh {
        let options = MeshOptions {
            registry: Arc::clone(&self.registry),
            identity,
            zone: String::new(),
            region: String::new(),
            snapshot: None,
        };
        Mesh::start(options, &mut Metrics::default()).unwrap()
    }

    pub(crate) fn admin(&self, role: Role) -> CertificateAdminServiceClient<Mesh> {
        CertificateAdminServiceClient::new(self.operator(role))
    }

    /// A file with a join token for these services, which so many keys may use.
    pub(crate) async fn token(&self, services: &[&str], uses_max: u32) -> PathBuf {
        let services = services.iter().map(|&service| service.to_owned()).collect();
        let request = CreateJoinTokenRequest { services, uses_max, ..Default::default() };
        let made = self.admin(Role::Admin).create_join_token(request).await.unwrap().into_inner();
        self.file(&made.token.unwrap().id, &made.text)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// How a service gets its identity that joins by a token.
    pub(crate) fn joining(&self, service: &str, token: &Path) -> Issuing {
        let credential = Some(Credential::Token(token.to_owned()));
        self.issuing(service, Issuer::Control { addresses: Vec::new(), credential, root: None })
    }

    pub(crate) fn issuing(&self, service: &str, issuer: Issuer) -> Issuing {
        issuer.of_service(service, Arc::clone(&self.registry), self.kept(service)).unwrap()
    }

    /// Where a service keeps its credentials.
    pub(crate) fn kept(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.identity.json"))
    }

    /// Renews an identity until the guard is dropped.
    pub(crate) fn renewing(&self, issuing: Issuing, identity: &Identity) -> DropGuard {
        let stop = CancellationToken::new();
        let mesh = self.mesh(identity.clone());
        let renewing = issuing.renew(identity.clone(), mesh, stop.clone());
        drop(spawn(renewing));
        stop.drop_guard()
    }
}

impl Control {
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.addresses.services[0].1.to_string()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.run).await.unwrap().unwrap().unwrap();
    }
}

/// A channel to one process, for what it serves beside what it registers.
pub(crate) fn to_one(identity: Identity, address: &str) -> Mesh {
    let served = [
        certificate_admin_service_server::SERVICE_NAME,
        proto::mesh::v1::identity_service_server::SERVICE_NAME,
        proto::mesh::v1::mesh_service_server::SERVICE_NAME,
        proto::mesh::v1::certificate_service_server::SERVICE_NAME,
    ];
    Mesh::to_one(identity, control::NAME, address, &served).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "what is spawned ends with the test or its guard")]
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(work)
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The reason in a status's ErrorInfo.
pub(crate) fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
