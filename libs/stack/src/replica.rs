//! A streaming replica of a [`Postgres`]: a base backup on first start, then the primary's log through a slot of its own.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::Connection as _;

use crate::postgres::{DATABASE, LIMITS, Site, USER, connect};
use crate::{Lifetime, Options, Postgres, Server};

/// A running replica; see [`Server`] for what can be done to it.
#[derive(Debug)]
pub struct PostgresReplica {
    server: Server,
    site: Site,
}

const BASE_BACKUP_TIME_MAX: Duration = Duration::from_secs(300);

impl PostgresReplica {
    /// Starts a replica on the data in `options.folder`, or on a fresh copy of the primary's, and returns when it answers
    /// queries. The primary must run for the copy; afterwards either may be away.
    ///
    /// # Errors
    /// Postgres is not installed, the copy fails, or the replica does not serve in time.
    pub async fn start(primary: &Postgres, options: Options) -> anyhow::Result<Self> {
        Self::start_of(&primary.url(), options).await
    }

    /// As [`Self::start`], for a primary that another process started, by its URL.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_of(primary_url: &str, options: Options) -> anyhow::Result<Self> {
        let password = password_of(primary_url)?;
        let site = Site::with_password(&options, Some(password))?;
        if !site.data.exists() {
            copy(primary_url, &site).await.context("copying the primary")?;
        }
        let server = site.serve("postgres replica", &[]).await?;
        Ok(Self { server, site })
    }

    /// URL of the database `linkmesh`, password included.
    pub fn url(&self) -> String {
        self.site.url(DATABASE)
    }

    /// Where its data really are.
    pub fn folder(&self) -> &Path {
        &self.site.folder
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.site.options.port
    }
}

impl Deref for PostgresReplica {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn copy(primary_url: &str, site: &Site) -> anyhow::Result<()> {
    let slot = format!("replica_{}", site.options.port);
    let fresh = site.folder.join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("removing an unfinished copy")?;
    }
    // An unfinished copy left its slot, too.
    let mut connection = connect(primary_url).await?;
    sqlx::query(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
         WHERE slot_name = $1 AND NOT active",
    )
    .bind(&slot)
    .execute(&mut connection)
    .await?;
    connection.close().await?;

    let (data, port) = (fresh.to_string_lossy(), port_of(primary_url)?);
    let mut program = site.program(
        "pg_basebackup",
        &[
            "--host=127.0.0.1",
            "--port",
            port,
            "--username",
            USER,
            "--pgdata",
            data.as_ref(),
            "--wal-method=stream",
            "--write-recovery-conf",
            "--create-slot",
            "--slot",
            &slot,
            "--checkpoint=fast",
            "--no-sync",
        ],
    )?;
    // Not an argument: everyone on the machine can read those.
    program.environment.push(("PGPASSWORD".into(), site.password.clone().into()));
    program.lifetime = Lifetime::Bound;
    program.run(BASE_BACKUP_TIME_MAX.max(LIMITS.start_max)).await?;
    fs::rename(&fresh, &site.data).context("moving the copy into place")
}

/// URLs are written by [`Site::url`] alone, so their form is known.
fn password_of(url: &str) -> anyhow::Result<&str> {
    let (_, rest) = url.split_once("://linkmesh:").context("not a URL of ours")?;
    Ok(rest.split_once('@').context("not a URL of ours")?.0)
}

fn port_of(url: &str) -> anyhow::Result<&str> {
    let (_, rest) = url.split_once("@127.0.0.1:").context("not a URL of ours")?;
    Ok(rest.split_once('/').context("not a URL of ours")?.0)
}
