//! `linkmesh migrate`: brings the schemas of services up to date.

use std::path::PathBuf;

use clap::Args;
use prometheus_client::registry::Registry;

use crate::config::Configuration;
use crate::config::ServiceName;
use crate::print;

/// The services that have a schema.
pub(crate) const WITH_SCHEMA: [ServiceName; 3] =
    [ServiceName::Identity, ServiceName::Links, ServiceName::Analytics];

/// Bring the database schemas of services up to date
///
/// Forward only, safe to run from many processes at once and while older processes serve: a second one waits, and finds
/// nothing to do. Run it before a new version is rolled out.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh migrate --config /etc/linkmesh.toml
  linkmesh migrate links --config /etc/linkmesh.toml")]
pub(crate) struct Arguments {
    /// The services whose schemas to migrate; none: all that have one
    #[arg(value_name = "SERVICE")]
    services: Vec<ServiceName>,
    /// The configuration, TOML; the environment (LINKMESH__SECTION__KEY) lies over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Migrates, one service after the other.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let asked = arguments.services;
    if let Some(service) = asked.iter().find(|service| !WITH_SCHEMA.contains(service)) {
        anyhow::bail!("{service} has no schema to migrate");
    }
    let services = if asked.is_empty() { WITH_SCHEMA.to_vec() } else { asked };
    let configuration = Configuration::load(arguments.config.as_deref(), &services)?;
    for service in services {
        schema(&configuration, service).await?;
        print::line(&format!("{service}: up to date"))?;
    }
    Ok(())
}

/// Migrates one service's schema; its section must have been wanted.
pub(crate) async fn schema(
    configuration: &Configuration,
    service: ServiceName,
) -> anyhow::Result<()> {
    let identity = configuration.identity.as_ref().map(|section| &section.config.postgres);
    let links = configuration.links.as_ref().map(|section| &section.config.postgres);
    let analytics = configuration.analytics.as_ref().map(|section| &section.config.postgres);
    let (postgres, migrations) = match service {
        ServiceName::Identity => (identity, &identity::MIGRATIONS),
        ServiceName::Links => (links, &links::MIGRATIONS),
        ServiceName::Analytics => (analytics, &analytics::MIGRATIONS),
        ServiceName::Control | ServiceName::Edge => return Ok(()),
    };
    let postgres = postgres.expect("its section was wanted");
    let database = pg::Database::open(postgres, &mut Registry::default())?;
    pg::migrate(&database, migrations, service.as_str()).await?;
    database.close().await;
    Ok(())
}
