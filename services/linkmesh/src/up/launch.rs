//! Starting members: servers through `stack`, services as this same program.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::{join_all, try_join_all};
use prometheus_client::registry::Registry;
use stack::{Durability, Etcd, Kafka, Lifetime, Options, Postgres, PostgresReplica, ProcessId};
use stack::{Program, Redis, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::roster::{Member, SERVERS};
use super::site::Site;
use super::{configuration, report, tokens};
use crate::{OPERATOR, Seed};

/// The longest that a service process may take to be ready.
const READY_TIME_MAX: Duration = Duration::from_secs(90);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(50);
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);
const PROBE_BYTES_MAX: u64 = 64 * 1024;

/// Starts the servers that do not run: side by side, since Kafka takes seconds, and the replica when there is a primary.
pub(super) async fn start_servers(site: &mut Site) -> anyhow::Result<()> {
    let (replica, first): (Vec<Member>, Vec<Member>) = SERVERS
        .into_iter()
        .filter(|member| site.running(*member).is_none())
        .partition(|member| *member == Member::Replica);
    for group in [first, replica] {
        let mut starts = Vec::new();
        for member in group {
            starts.push(start_server(ServerStart::plan(site, member)?));
        }
        // All of them to their end: those that did start must be noted, or nobody would ever stop them.
        let mut failed = None;
        for started in join_all(starts).await {
            match started {
                Ok(server) => note_server(site, server)?,
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}

/// Starts the service processes that do not run, and waits until all are ready: control first, where the others join.
pub(super) async fn start_services(site: &mut Site) -> anyhow::Result<()> {
    let (controls, others): (Vec<_>, Vec<_>) = Member::services()
        .filter(|member| site.running(*member).is_none())
        .partition(|member| member.is_control());
    start_group(site, controls).await?;
    tokens::write(site, &others).await?;
    start_group(site, others).await
}

async fn start_group(site: &mut Site, stopped: Vec<Member>) -> anyhow::Result<()> {
    let mut waits = Vec::new();
    for member in stopped {
        let program = service_program(site, member)?;
        let process = program.start_detached()?;
        site.started(member, process)?;
        let admin = site.port(&format!("{member}.admin"))?;
        waits.push(until_ready(member, program, process, admin));
    }
    try_join_all(waits).await.map(drop)
}

/// Starts one member that does not run, and waits until it serves.
pub(super) async fn start(site: &mut Site, member: Member) -> anyhow::Result<()> {
    if !matches!(member, Member::Service(..)) {
        let server = start_server(ServerStart::plan(site, member)?).await?;
        return note_server(site, server);
    }
    if !member.is_control() {
        tokens::write(site, &[member]).await?;
    }
    let program = service_program(site, member)?;
    let process = program.start_detached()?;
    site.started(member, process)?;
    let admin = site.port(&format!("{member}.admin"))?;
    until_ready(member, program, process, admin).await
}

/// Brings the schemas of all services up to date.
pub(super) async fn migrate(site: &Site) -> anyhow::Result<()> {
    let url = site.saved.postgres.as_ref().context("Postgres has not been started")?;
    let database = pg::Database::open(&pg::Config::new(url), &mut Registry::default())?;
    for (schema, migrations) in [
        (identity::NAME, &identity::MIGRATIONS),
        (links::NAME, &links::MIGRATIONS),
        (analytics::NAME, &analytics::MIGRATIONS),
    ] {
        pg::migrate(&database, migrations, schema).await?;
    }
    database.close().await;
    report::line("migrations: applied")
}

/// The first workspace and key, through the mesh as any operator's tool would.
pub(super) async fn seed(site: &mut Site) -> anyhow::Result<Seed> {
    let mesh = operator(site)?;
    let seed = crate::seed(&mesh, "First workspace").await;
    mesh.close().await;
    seed
}

/// The mesh as an operator calls it; to be closed.
pub(super) fn operator(site: &mut Site) -> anyhow::Result<mesh::Mesh> {
    let authority = mesh::LocalAuthority::open_or_create(&site.folder.join("authority"))?;
    let options = mesh::MeshOptions {
        registry: mesh::registry::open(&format!("etcd://127.0.0.1:{}", site.port("etcd")?))?,
        identity: authority.issue(OPERATOR)?,
        zone: configuration::ZONE.to_owned(),
        region: configuration::REGION.to_owned(),
        snapshot: None,
    };
    mesh::Mesh::start(options, &mut Registry::default())
}

struct ServerStart {
    member: Member,
    options: Options,
    /// For a replica.
    primary: Option<String>,
}

struct ServerStarted {
    member: Member,
    process: ProcessId,
    /// Of a Postgres: its URL and where its data are.
    postgres: Option<(String, std::path::PathBuf)>,
}

impl ServerStart {
    fn plan(site: &mut Site, member: Member) -> anyhow::Result<Self> {
        let options = Options {
            folder: site.member_folder(member)?,
            port: site.port(&member.to_string())?,
            lifetime: Lifetime::Detached,
        };
        Ok(Self { member, options, primary: site.saved.postgres.clone() })
    }
}

async fn start_server(start: ServerStart) -> anyhow::Result<ServerStarted> {
    let ServerStart { member, options, primary } = start;
    let began = Instant::now();
    let port = options.port;
    let mut postgres = None;
    let process = match member {
        Member::Etcd => Etcd::start(options).await?.process().await,
        Member::Redis => Redis::start(options).await?.process().await,
        Member::Kafka => Kafka::start(options).await?.process().await,
        Member::Postgres => {
            let server = Postgres::start(options, Durability::Durable).await?;
            postgres = Some((server.url(), server.folder().to_owned()));
            server.process().await
        }
        Member::Replica => {
            let primary = primary.context("a replica needs a primary: start postgres first")?;
            let server = PostgresReplica::start_of(&primary, options).await?;
            postgres = Some((server.url(), server.folder().to_owned()));
            server.process().await
        }
        Member::Service(..) => bail!("{member} is no server"),
    };
    let process = process.with_context(|| format!("{member} ended at once"))?;
    let seconds = began.elapsed().as_secs_f64();
    report::line(&format!("{member}: serves on 127.0.0.1:{port} after {seconds:.1} s"))?;
    Ok(ServerStarted { member, process, postgres })
}

fn note_server(site: &mut Site, server: ServerStarted) -> anyhow::Result<()> {
    if let Some((url, folder)) = server.postgres {
        let saved = &mut site.saved;
        let is_replica = server.member == Member::Replica;
        let slot = if is_replica { &mut saved.replica } else { &mut saved.postgres };
        *slot = Some(url);
        if !site.saved.postgres_folders.contains(&folder) {
            site.saved.postgres_folders.push(folder);
        }
    }
    site.started(server.member, server.process)
}

fn service_program(site: &Site, member: Member) -> anyhow::Result<Program> {
    let Member::Service(service, _) = member else { bail!("{member} is no service") };
    let folder = site.member_folder(member)?;
    let config = configuration::file_of(site, member);
    let executable = std::env::current_exe().context("finding this program")?;
    Ok(Program {
        executable,
        arguments: vec!["serve".into(), service.into(), "--config".into(), config.into()],
        environment: Vec::new(),
        log: folder.join(format!("{member}.log")),
        folder,
        account: None,
        lifetime: Lifetime::Detached,
        farewell: Signal::Terminate,
    })
}

async fn until_ready(
    member: Member,
    program: Program,
    process: ProcessId,
    admin_port: u16,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        if !process.is_running() {
            bail!("{member} ended: {}", program.last_words());
        }
        let answer = probe(admin_port).await.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") {
            let (pid, seconds) = (process.pid, began.elapsed().as_secs_f64());
            return report::line(&format!("{member}: ready after {seconds:.1} s, process {pid}"));
        }
        if began.elapsed() > READY_TIME_MAX {
            let said = program.last_words();
            bail!("{member} runs and is not ready after {READY_TIME_MAX:?}: {answer}\n{said}");
        }
        tokio::time::sleep(READY_POLL_INTERVAL).await;
    }
}

async fn probe(admin_port: u16) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin_port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.take(PROBE_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(PROBE_TIME_MAX, asked).await.context("no answer")?
}
