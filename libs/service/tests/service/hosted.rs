//! A host under test: started on ports that the system chooses, asked over real connections, stopped and joined.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use mesh::LocalAuthority;
use mesh::Mesh;
use service::Addresses;
use service::Assembly;
use service::Host;
use service::HostConfig;
use service::Task;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here may take, and shorter than anyone's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));

/// Settings for a host of its own in `folder`.
pub(crate) fn config(folder: &TempDir) -> HostConfig {
    let mut config = HostConfig::default();
    config.host.instance = Some("1".to_owned());
    config.host.data = folder.path().to_owned();
    config.host.admin_listen = ANY_PORT;
    config.host.drain_max = PATIENCE;
    config
}

/// What happened, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// An assembly with these tasks, each of which notes when it stops.
    pub(crate) fn assembly(&self, tasks: &[&'static str]) -> Assembly {
        let tasks = tasks.iter().map(|&name| {
            let diary = self.clone();
            Task::new(name, move |stop| async move {
                stop.cancelled().await;
                diary.note(format!("{name} stopped"));
                Ok(())
            })
        });
        Assembly { tasks: tasks.collect(), ..Assembly::default() }
    }
}

/// A host that runs.
pub(crate) struct Hosted {
    pub(crate) addresses: Addresses,
    stop: CancellationToken,
    run: JoinHandle<anyhow::Result<()>>,
    authority: LocalAuthority,
}

impl Hosted {
    /// Runs the host until it is ready.
    pub(crate) async fn ready(host: Host, folder: &TempDir) -> Hosted {
        let (ready, is_ready) = oneshot::channel();
        let stop = CancellationToken::new();
        let run = spawn(host.tell_when_ready(ready).run(stop.clone()));
        let addresses = timeout(PATIENCE, is_ready).await.expect("ready in time");
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(_) => panic!("the host did not start: {:?}", run.await),
        };
        let authority = LocalAuthority::open_or_create(&folder.path().join("authority")).unwrap();
        Hosted { addresses, stop, run, authority }
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        timeout(PATIENCE, self.run).await.expect("ended in time").expect("no panic")
    }

    /// Stops it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.ask_to_stop();
        self.ended().await
    }

    /// A channel to one service's listener, as an operator.
    pub(crate) fn operator(&self, service: &str, grpc_services: &[&str]) -> Mesh {
        let (_, address) = self
            .addresses
            .services
            .iter()
            .find(|(name, _)| *name == service)
            .expect("it is hosted");
        let identity = self.authority.issue("operator").unwrap();
        Mesh::to_one(identity, service, &address.to_string(), grpc_services).unwrap()
    }

    /// The answer of the admin listener, head and body.
    pub(crate) async fn admin(&self, path: &str) -> String {
        get(self.addresses.admin, path).await
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    timeout(PATIENCE, asked).await.expect("answered in time").expect("answered")
}

#[expect(clippy::disallowed_methods, reason = "every test joins what it gets")]
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(work)
}
