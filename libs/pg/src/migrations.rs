//! Forward-only migrations, one owner per schema, safe to run from many processes at once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::Database;
use crate::partitions::is_identifier;

/// The longest that a service's migrations may take together, waiting for another process's included.
pub const MIGRATION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Applies what is missing, under an advisory lock of the database; a second process waits and finds nothing to do.
///
/// Each service keeps its own history, in `<schema>._migrations`; the schema is created if it is missing.
///
/// # Errors
/// The server can't be reached, a migration fails (it is rolled back), or one that was applied has changed since.
pub async fn migrate(database: &Database, migrator: &Migrator, schema: &str) -> anyhow::Result<()> {
    ensure!(is_identifier(schema), "not a schema name: {schema:?}");
    let mut migrator = Migrator::with_migrations(migrator.iter().cloned().collect());
    migrator.dangerous_set_table_name(format!("{schema}._migrations"));
    migrator.create_schema(schema.to_owned());

    // A session of its own: waiting for the lock, and a large table, take longer than a query may.
    let options = database.primary_options().clone().options([
        ("statement_timeout", MIGRATION_TIMEOUT.as_millis().to_string()),
        ("lock_timeout", MIGRATION_TIMEOUT.as_millis().to_string()),
    ]);
    let work = async {
        let mut connection = options.connect().await.context("can't reach Postgres")?;
        migrator.run(&mut connection).await.with_context(|| format!("migrating {schema}"))?;
        connection.close().await.context("closing the migrating connection")
    };
    tokio::time::timeout(MIGRATION_TIMEOUT, work)
        .await
        .with_context(|| format!("migrating {schema} took longer than {MIGRATION_TIMEOUT:?}"))?
}
