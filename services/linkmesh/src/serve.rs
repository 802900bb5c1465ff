//! `linkmesh serve`: the services that this process runs, and how a host is made of a configuration.

use std::path::PathBuf;

use clap::Args;
use mesh::identity::Issuer;
use service::Host;
use service::Telemetry;
use tokio_util::sync::CancellationToken;

use crate::VERSION;
use crate::config::Configuration;
use crate::config::ServiceName;
use crate::signals;

/// Run one or more services of a cluster in this process
///
/// Each service has its own listener, certificate and place in the mesh, and takes its settings from its own section.
/// SIGTERM or Ctrl-C stops in order: out of the registry, NOT_SERVING, GOAWAY, what is in flight, tasks; then exit 0.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh serve links --config /etc/linkmesh.toml
  linkmesh serve identity links analytics --config cluster.toml
  LINKMESH__HOST__INSTANCE=edge-2 linkmesh serve edge --config cluster.toml")]
pub(crate) struct Arguments {
    /// The services to run
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceName>,
    /// The configuration, TOML; the environment (LINKMESH__SECTION__KEY) lies over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until a signal.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut services = arguments.services;
    services.sort_unstable();
    services.dedup();
    let mut configuration = Configuration::load(arguments.config.as_deref(), &services)?;
    let telemetry = Telemetry::start(&configuration.host.host, VERSION)?;
    let host = host(&mut configuration, &services);
    let stop = CancellationToken::new();
    let ended = signals::stopping(stop.clone(), host.run(stop)).await;
    telemetry.stop().await;
    ended
}

/// A host of these services, whose sections are taken out of the configuration.
pub(crate) fn host(configuration: &mut Configuration, services: &[ServiceName]) -> Host {
    let mut host = Host::new(configuration.host.clone(), VERSION);
    for service in services {
        // A section was required for every service that is run.
        host = match service {
            ServiceName::Control => {
                let mut section = configuration.control.take().expect("control was wanted");
                let (mesh, data) = (&configuration.host.mesh, &configuration.host.host.data);
                let folder = section.config.authority.take();
                let folder = folder.unwrap_or_else(|| mesh.authority_folder(data));
                section.config.authority = Some(folder.clone());
                // Who issues the others' certificates can't wait for one.
                let life = section.config.certificate_life;
                host.issued_by(control::NAME, Issuer::File { folder, life }).add(
                    control::NAME,
                    section.listen,
                    |cx| control::assemble(section.config, cx),
                )
            }
            ServiceName::Identity => {
                let section = configuration.identity.take().expect("identity was wanted");
                host.add(identity::NAME, section.listen, |cx| {
                    identity::assemble(section.config, cx)
                })
            }
            ServiceName::Links => {
                let section = configuration.links.take().expect("links was wanted");
                host.add(links::NAME, section.listen, |cx| links::assemble(section.config, cx))
            }
            ServiceName::Analytics => {
                let section = configuration.analytics.take().expect("analytics was wanted");
                host.add(analytics::NAME, section.listen, |cx| {
                    analytics::assemble(section.config, cx)
                })
            }
            ServiceName::Edge => {
                let section = configuration.edge.take().expect("edge was wanted");
                host.add_front(edge::NAME, section.listen, |cx| edge::assemble(section.config, cx))
            }
        };
    }
    host
}
