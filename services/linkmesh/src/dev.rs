//! `linkmesh dev`: everything in one process, with its own Postgres. Nothing in a service knows that it runs so.
//!
//! What must stay true: the data outlive the process, however it ends; no server outlives it; the API key's secret is in
//! `dev.env` and nowhere else.

pub(crate) mod environment;
mod lock;
mod ports;
mod settings;
mod welcome;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use mesh::LocalAuthority;
use mesh::Mesh;
use proto::identity::v1::api_keys_service_server;
use proto::identity::v1::workspaces_service_server;
use rpc::Permissions;
use service::Telemetry;
use stack::Durability;
use stack::Lifetime;
use stack::Postgres;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::VERSION;
use crate::config::Configuration;
use crate::config::ServiceName;
use crate::limits;
use crate::migrate;
use crate::print;
use crate::seed;
use crate::seed::NewApiKey;
use crate::seed::Seed;
use crate::serve;
use crate::signals;

use self::environment::DevEnvironment;
use self::lock::Lock;
use self::ports::Ports;

/// What the seeded workspace and its key are called.
const SEED_NAME: &str = "dev";

/// Run everything in one process, to try out and to develop
///
/// All services and the edge, a private Postgres, and an event log on disk. The first start makes a workspace with an API
/// key. Prints the addresses, the key and commands to paste; writes the same to DIR/dev.env, to source. Ctrl-C drains and
/// stops everything; data and ports are the same at the next start.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh dev
  linkmesh dev --listen 0.0.0.0:80            for others on the network
  linkmesh dev --folder /tmp/second           a second one beside the first
  LINKMESH__HOST__LOG=debug linkmesh dev      any setting can be given in the environment")]
pub(crate) struct Arguments {
    /// Where data and dev.env are
    #[arg(long, value_name = "DIR", default_value = ".data")]
    folder: PathBuf,
    /// Where clients connect; default: 127.0.0.1:8080 the first time, or another port if that is taken, and the same ever
    /// after
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Runs until a signal.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    signals::stopping(stop.clone(), Box::pin(start(arguments, stop))).await
}

async fn start(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let site = Site::open(&arguments.folder)?;
    let ports = Ports::choose(&site.data.join("ports.json"), arguments.listen)?;
    let id = kept_id(&site.data.join("id"))?;
    seal::Keyring::open_or_create(&settings::keyring(&site.data))?;
    limits::write_missing(&site.data.join(limits::FILE))?;
    let postgres_options = stack::Options {
        // For root it may lie elsewhere: then a folder that was removed must not meet its data again.
        folder: site.data.join(format!("postgres-{}", id.simple())),
        port: ports.postgres,
        lifetime: Lifetime::Bound,
    };
    // Once without a database's URL: a bad setting is refused before anything is started.
    settings::configuration(&site.data, &ports, "postgres://unknown")?;

    print::line("starting …")?;
    let postgres = Postgres::start(postgres_options, Durability::Durable).await?;
    let ended = match settings::configuration(&site.data, &ports, &postgres.url()) {
        Ok(configuration) => serve(configuration, &site, &ports, stop).await,
        Err(error) => Err(error.into()),
    };
    postgres.stop().await;
    ended
}

async fn serve(
    mut configuration: Configuration,
    site: &Site,
    ports: &Ports,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(&configuration.host.host, VERSION)?;
    for service in migrate::WITH_SCHEMA {
        migrate::schema(&configuration, service).await?;
    }
    let (ready, is_ready) = oneshot::channel();
    let host = serve::host(&mut configuration, &ServiceName::ALL).tell_when_ready(ready);
    let greeting = async {
        let Ok(addresses) = is_ready.await else { return Ok(()) };
        let seed = seeded(site, ports).await?;
        let environment = DevEnvironment { seed: &seed, ports, admin: addresses.admin, site };
        environment.write()?;
        welcome::print(&environment)
    };
    let stop_all = stop.clone();
    let greeted = async {
        let greeted = greeting.await;
        if greeted.is_err() {
            stop_all.cancel();
        }
        greeted
    };
    let (ended, greeted) = tokio::join!(Box::pin(host.run(stop)), greeted);
    telemetry.stop().await;
    ended.and(greeted)
}

/// The folder of one `linkmesh dev`, locked for as long as this value lives.
struct Site {
    /// Where `dev.env` is.
    folder: PathBuf,
    /// Where everything else is.
    data: PathBuf,
    _lock: Lock,
}

impl Site {
    fn open(folder: &Path) -> anyhow::Result<Site> {
        let data = folder.join("dev");
        // Others may pass through: a server that runs as another user has its data below.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711);
        builder.create(&data).with_context(|| format!("creating {}", data.display()))?;
        let folder = folder.canonicalize()?;
        let data = folder.join("dev");
        let lock = Lock::take(&data.join("lock"), &folder)?;
        Ok(Site { folder, data, _lock: lock })
    }

    fn authority(&self) -> PathBuf {
        self.data.join("authority")
    }
}

/// The workspace and key of earlier starts, or new ones: a workspace once, a key whenever `dev.env` has none.
async fn seeded(site: &Site, ports: &Ports) -> anyhow::Result<Seed> {
    let identity = LocalAuthority::open_or_create(&site.authority())?.issue(seed::OPERATOR)?;
    let address = format!("127.0.0.1:{}", ports.identity);
    let services = [workspaces_service_server::SERVICE_NAME, api_keys_service_server::SERVICE_NAME];
    let mesh = Mesh::to_one(identity, identity::NAME, &address, &services)?;
    let seed = seeded_through(&mesh, site).await;
    mesh.close().await;
    seed
}

async fn seeded_through(mesh: &Mesh, site: &Site) -> anyhow::Result<Seed> {
    // The same request id again answers with the same workspace: a start that is cut short here leaves no second one.
    let request_id = kept_id(&site.data.join("id"))?;
    let name_file = site.data.join("workspace");
    let workspace = match fs::read_to_string(&name_file) {
        Ok(name) => name.trim().to_owned(),
        Err(_) => {
            let name = seed::workspace(mesh.clone(), SEED_NAME, request_id).await?.name;
            fs::write(&name_file, format!("{name}\n"))
                .with_context(|| format!("writing {}", name_file.display()))?;
            name
        }
    };
    let known = environment::read(&site.folder.join(environment::FILE)).unwrap_or_default();
    let is_ours = known.get("LINKMESH_WORKSPACE") == Some(&workspace);
    if let Some(api_key) = known.get("LINKMESH_API_KEY").filter(|key| is_ours && !key.is_empty()) {
        return Ok(Seed { workspace, api_key: api_key.clone() });
    }
    let key = NewApiKey {
        workspace: &workspace,
        display_name: SEED_NAME,
        scopes: Permissions::ALL,
        expire_time: None,
    };
    let created = seed::api_key(mesh.clone(), key).await?;
    Ok(Seed { workspace, api_key: created.secret })
}

/// The UUID in the file, or a new one that is then written there.
fn kept_id(file: &Path) -> anyhow::Result<Uuid> {
    if let Ok(text) = fs::read_to_string(file) {
        return text.trim().parse().with_context(|| format!("no UUID in {}", file.display()));
    }
    let id = Uuid::new_v4();
    fs::write(file, format!("{id}\n")).with_context(|| format!("writing {}", file.display()))?;
    Ok(id)
}
