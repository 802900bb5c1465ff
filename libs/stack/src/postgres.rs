//! A private Postgres: made on first start, one superuser `linkmesh` with a random password, one database `linkmesh`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::server::{Limits, Ready};
use crate::{Account, Options, ProcessId, Program, Server, Signal, locate};

/// Whether data must survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Postgres' own defaults.
    Durable,
    /// No fsync at all: for tests and nothing else. A crash of the process alone still loses nothing.
    Throwaway,
}

/// A running server; see [`Server`] for what can be done to it.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    site: Site,
}

pub(crate) const USER: &str = "linkmesh";
pub(crate) const DATABASE: &str = "linkmesh";

pub(crate) const LIMITS: Limits = Limits {
    // Recovery after a kill under load may replay a good deal of the log.
    start_max: Duration::from_secs(60),
    stop_max: Duration::from_secs(20),
    stop_signal: Signal::Interrupt,
};
const INITDB_TIME_MAX: Duration = Duration::from_secs(60);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

impl Postgres {
    /// Starts a primary, on the data in `options.folder` or on fresh ones, and returns when it serves. As root it runs as
    /// an unprivileged user, on data elsewhere if that user can't reach the folder.
    ///
    /// # Errors
    /// Postgres is not installed, or does not serve in time.
    pub async fn start(options: Options, durability: Durability) -> anyhow::Result<Self> {
        let site = Site::prepare(&options)?;
        if !site.data.exists() {
            initialise(&site, durability).await.context("making the first Postgres data")?;
        }
        let mut settings = vec!["max_slot_wal_keep_size=1GB".to_owned()];
        if durability == Durability::Throwaway {
            settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        let server = site.serve("postgres", &settings).await?;
        let postgres = Self { server, site };
        postgres.ensure_database(DATABASE).await?;
        Ok(postgres)
    }

    /// URL of the database `linkmesh`, password included.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        self.site.url(database)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.site.options.port
    }

    /// Where its data really are.
    pub fn folder(&self) -> &Path {
        &self.site.folder
    }

    async fn ensure_database(&self, name: &'static str) -> anyhow::Result<()> {
        let mut connection = connect(&self.url_of("postgres")).await?;
        let (exists,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            let statement = format!("CREATE DATABASE {name}");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await.context("closing the connection")
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Where one server lives: shared by primaries and replicas.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) options: Options,
    pub(crate) account: Option<Account>,
    /// Belongs to the account; holds the data, the password and the log.
    pub(crate) folder: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) password: String,
}

impl Site {
    pub(crate) fn prepare(options: &Options) -> anyhow::Result<Self> {
        Self::with_password(options, None)
    }

    pub(crate) fn with_password(options: &Options, given: Option<&str>) -> anyhow::Result<Self> {
        locate::postgres("postgres")?;
        let account = Account::unprivileged()?;
        let folder = match &account {
            Some(account) => account.own_folder(&options.folder)?,
            None => {
                fs::create_dir_all(&options.folder)?;
                options.folder.canonicalize()?
            }
        };
        let password = kept_password(&folder.join("password"), given, account.as_ref())?;
        let data = folder.join("data");
        Ok(Self { options: options.clone(), account, folder, data, password })
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let Self { password, options, .. } = self;
        format!("postgres://{USER}:{password}@127.0.0.1:{}/{database}", options.port)
    }

    pub(crate) fn program(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        Ok(Program {
            executable: locate::postgres(program)?,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            folder: self.folder.clone(),
            log: self.folder.join("postgres.log"),
            account: self.account.clone(),
            lifetime: self.options.lifetime,
            farewell: Signal::Interrupt,
        })
    }

    /// Starts `postgres` itself, not `pg_ctl`: then it is our child, and a death signal reaches it.
    pub(crate) async fn serve(
        &self,
        name: &'static str,
        settings: &[String],
    ) -> anyhow::Result<Server> {
        let data = self.data.to_string_lossy();
        let port = format!("port={}", self.options.port);
        let mut arguments = vec!["-D", data.as_ref()];
        let fixed = [
            "listen_addresses=127.0.0.1",
            // A socket's path has at most 107 bytes, and nothing here needs one.
            "unix_socket_directories=",
            "max_connections=300",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_line_prefix=%m [%p] ",
            "log_checkpoints=off",
            // Queries here are short: compiling them costs more than it saves.
            "jit=off",
            port.as_str(),
        ];
        for setting in fixed.into_iter().chain(settings.iter().map(String::as_str)) {
            arguments.extend(["-c", setting]);
        }
        let program = self.program("postgres", &arguments)?;
        let ready = Ready::Postgres { url: self.url("postgres"), data: self.data.clone() };
        Server::start(name, program, ready, LIMITS).await
    }
}

async fn initialise(site: &Site, durability: Durability) -> anyhow::Result<()> {
    // Made beside and renamed: an interrupted start leaves nothing that looks like data.
    let fresh = site.folder.join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("removing unfinished data")?;
    }
    let (data, password) = (fresh.to_string_lossy(), site.folder.join("password"));
    let password_file = format!("--pwfile={}", password.to_string_lossy());
    let mut arguments = vec![
        "--pgdata",
        data.as_ref(),
        "--username",
        USER,
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        // Others on this machine have no business in it; over loopback the password itself may travel.
        "--auth=password",
        password_file.as_str(),
    ];
    if durability == Durability::Throwaway {
        arguments.push("--no-sync");
    }
    let mut program = site.program("initdb", &arguments)?;
    program.lifetime = crate::Lifetime::Bound;
    program.run(INITDB_TIME_MAX).await?;
    fs::rename(&fresh, &site.data).context("moving the new data into place")
}

/// The password that the file holds, or a random one of 122 bits that is then written there for its owner only.
fn kept_password(
    file: &Path,
    given: Option<&str>,
    account: Option<&Account>,
) -> anyhow::Result<String> {
    if let Ok(text) = fs::read_to_string(file) {
        let password = text.trim().to_owned();
        ensure!(!password.is_empty(), "{} is empty", file.display());
        return Ok(password);
    }
    let password =
        given.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), ToOwned::to_owned);
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("writing {}", file.display()))?;
    writeln!(opened, "{password}")?;
    if let Some(account) = account {
        chown(file, Some(account.uid), Some(account.gid))?;
    }
    Ok(password)
}

/// Removes the lock file of a server that is dead but uncollected: in a container whose first process collects nobody, a
/// zombie keeps its number, and Postgres would take it for a living rival.
pub(crate) fn forget_the_dead(data: &Path) {
    let lock = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&lock) else { return };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { return };
    if !ProcessId::of(pid).is_ok_and(|process| process.is_running()) {
        // If it can't be removed, Postgres judges for itself and says so.
        fs::remove_file(&lock).ok();
    }
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<sqlx::PgConnection> {
    let options = PgConnectOptions::from_str(url)?.application_name("stack");
    let connecting = tokio::time::timeout(CONNECT_TIME_MAX, options.connect());
    connecting.await.context("Postgres does not answer")?.context("can't connect to Postgres")
}

pub(crate) async fn answers(url: &str) -> bool {
    match connect(url).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_not_yet) => false,
    }
}
