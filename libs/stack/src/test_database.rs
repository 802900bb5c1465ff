//! A fresh database for each test, cloned in milliseconds from a template that was migrated once.
//!
//! One Postgres serves all tests of a process: it starts with the first that asks, and goes, data and all, when the
//! process ends. Databases of finished tests are dropped when the next one is made.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::OnceCell;

use crate::postgres::connect;
use crate::{Durability, Options, Postgres, TemporaryFolder};

/// A database of one test's own. Dropping the handle lets it be removed.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
}

/// A schema and what makes it.
pub type Schema<'a> = (&'a str, &'a Migrator);

/// The one server of this process: shared, because starting one takes a second and cloning a database takes a twentieth.
static SHARED: OnceCell<Shared> = OnceCell::const_new();

struct Shared {
    postgres: Postgres,
    /// Templates that are ready; locked while one is being made, so that it is made once.
    templates: tokio::sync::Mutex<HashSet<String>>,
    abandoned: Mutex<Vec<String>>,
    _folder: TemporaryFolder,
}

impl TestDatabase {
    /// A fresh database in which these schemas' migrations have run.
    ///
    /// # Errors
    /// Postgres is not installed or does not start, or a migration fails.
    pub async fn migrated(schemas: &[Schema<'_>]) -> anyhow::Result<Self> {
        let shared = SHARED.get_or_try_init(Shared::start).await?;
        let template = shared.template(schemas).await?;
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let mut connection = connect(&shared.postgres.url_of("postgres")).await?;
        for abandoned in shared.take_abandoned() {
            let statement = format!("DROP DATABASE IF EXISTS {abandoned} WITH (FORCE)");
            execute(&mut connection, statement).await?;
        }
        execute(&mut connection, format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        connection.close().await?;
        Ok(Self { url: shared.postgres.url_of(&name), name })
    }

    /// A fresh database with nothing in it.
    ///
    /// # Errors
    /// Postgres is not installed or does not start.
    pub async fn empty() -> anyhow::Result<Self> {
        Self::migrated(&[]).await
    }

    /// Its URL, password included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As a service's configuration has it.
    pub fn config(&self) -> pg::Config {
        pg::Config { connections_max: 8, ..pg::Config::new(&self.url) }
    }

    /// Opened, with metrics that nobody reads.
    ///
    /// # Panics
    /// Never: the configuration is its own.
    pub fn open(&self) -> pg::Database {
        pg::Database::open(&self.config(), &mut Registry::default())
            .expect("a URL made here is a URL")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Some(shared) = SHARED.get() {
            let name = std::mem::take(&mut self.name);
            shared.abandoned.lock().expect("no panic while held").push(name);
        }
    }
}

impl Shared {
    async fn start() -> anyhow::Result<Self> {
        let folder = TemporaryFolder::new()?;
        let options = Options::bound(folder.path().join("postgres"))?;
        let postgres = Postgres::start(options, Durability::Throwaway).await?;
        let (templates, abandoned) = Default::default();
        Ok(Self { postgres, templates, abandoned, _folder: folder })
    }

    fn take_abandoned(&self) -> Vec<String> {
        std::mem::take(&mut *self.abandoned.lock().expect("no panic while held"))
    }

    async fn template(&self, schemas: &[Schema<'_>]) -> anyhow::Result<String> {
        let name = template_name(schemas);
        let mut templates = self.templates.lock().await;
        if templates.contains(&name) {
            return Ok(name);
        }
        let mut connection = connect(&self.postgres.url_of("postgres")).await?;
        execute(&mut connection, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        execute(&mut connection, format!("CREATE DATABASE {name}")).await?;
        connection.close().await?;
        let config = pg::Config::new(self.postgres.url_of(&name));
        let database = pg::Database::open(&config, &mut Registry::default())?;
        for (schema, migrator) in schemas {
            pg::migrate(&database, migrator, schema).await?;
        }
        // A template with a connection to it can't be cloned.
        database.close().await;
        templates.insert(name.clone());
        Ok(name)
    }
}

async fn execute(connection: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    let context = statement.clone();
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.context(context)?;
    Ok(())
}

fn template_name(schemas: &[Schema<'_>]) -> String {
    let mut hasher = DefaultHasher::new();
    for (schema, migrator) in schemas {
        schema.hash(&mut hasher);
        for migration in migrator.iter() {
            (migration.version, &migration.checksum).hash(&mut hasher);
        }
    }
    format!("template_{:016x}", hasher.finish())
}
