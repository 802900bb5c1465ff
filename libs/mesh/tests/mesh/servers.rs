//! etcd as a test breaks it: one server, or three of which each is behind a network that may fail.

use crate::backend::LINKS;
use crate::world::World;
use mesh::Registry;
use stack::Etcd;
use stack::EtcdCluster;
use stack::EtcdOptions;
use stack::FaultProxy;
use stack::Faults;
use stack::Options;
use stack::TemporaryFolder;
use std::process::Command;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

/// One etcd.
pub(crate) struct Servers {
    pub(crate) etcd: Etcd,
    pub(crate) world: World,
    pub(crate) folder: TemporaryFolder,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let folder = TemporaryFolder::new().unwrap();
        let etcd = Etcd::start(Options::bound(folder.path()).unwrap()).await.unwrap();
        let world = World::with_registry(&etcd.url());
        Self { etcd, world, folder }
    }

    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> String {
        etcdctl(&self.etcd, arguments)
    }

    /// The lease that holds the key of an instance.
    pub(crate) fn lease_of(&self, instance: &str) -> Option<i64> {
        lease_of(&self.etcd, instance)
    }
}

/// How many tests have three servers at a time: each of them writes to the disk and waits for it.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Three etcd servers that are one. `world` goes to them directly.
pub(crate) struct Quorum {
    pub(crate) cluster: EtcdCluster,
    pub(crate) world: World,
    _folder: TemporaryFolder,
    _turn: SemaphorePermit<'static>,
}

impl Quorum {
    pub(crate) async fn start() -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let folder = TemporaryFolder::new().unwrap();
        let started = Box::pin(EtcdCluster::start(folder.path(), EtcdOptions::default()));
        let cluster = started.await.unwrap();
        let world = World::with_registry(&cluster.url());
        Self { cluster, world, _folder: folder, _turn: turn }
    }

    /// A way to the servers that may fail.
    pub(crate) async fn network(&self) -> Network {
        let members = self.cluster.members();
        Network::to(members.iter().map(Etcd::address).collect()).await
    }
}

/// The network between one client and its servers, each behind a proxy of its own.
pub(crate) struct Network {
    pub(crate) proxies: Vec<FaultProxy>,
    pub(crate) registry: Arc<dyn Registry>,
}

impl Network {
    pub(crate) async fn to(servers: Vec<String>) -> Self {
        let mut proxies = Vec::new();
        for server in servers {
            proxies.push(FaultProxy::start(server).await.unwrap());
        }
        let addresses: Vec<String> = proxies.iter().map(FaultProxy::address).collect();
        let registry = mesh::registry::open(&format!("etcd://{}", addresses.join(","))).unwrap();
        Self { proxies, registry }
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.proxies.iter().for_each(|proxy| proxy.set(faults));
    }

    pub(crate) fn heal(&self) {
        self.set(Faults::NONE);
    }
}

pub(crate) fn etcdctl(etcd: &Etcd, arguments: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", etcd.address()))
        .args(arguments)
        .output()
        .expect("etcdctl is installed: apt-get install etcd-client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn lease_of(etcd: &Etcd, instance: &str) -> Option<i64> {
    field(etcd, instance, "Lease").filter(|lease| *lease != 0)
}

/// A number that etcd knows of an instance's key.
pub(crate) fn field(etcd: &Etcd, instance: &str, name: &str) -> Option<i64> {
    let key = format!("linkmesh/endpoints/{LINKS}/{instance}");
    let fields = etcdctl(etcd, &["get", &key, "--write-out=fields"]);
    let prefix = format!("\"{name}\" : ");
    let value = fields.lines().find_map(|line| line.strip_prefix(prefix.as_str()))?;
    Some(value.parse().unwrap())
}

/// Forgets all revisions up to now, so that whoever would go on from one of them can't.
pub(crate) fn compact(etcd: &Etcd) {
    let revision = field(etcd, "nobody", "Revision").expect("every answer has one");
    etcdctl(etcd, &["compact", &revision.to_string()]);
}
