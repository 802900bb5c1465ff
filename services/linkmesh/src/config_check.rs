//! `linkmesh config check`: what is wrong with a configuration, before a process is started with it.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Configuration;
use crate::config::ServiceName;
use crate::print;

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether the settings would be taken; the first one refused is named in full, with exit code 64
    ///
    /// Contacts nothing. The environment (LINKMESH__SECTION__KEY) counts, as it does at the start.
    #[command(after_long_help = "\
Examples:
  linkmesh config check --config /etc/linkmesh.toml
  linkmesh config check links --config /etc/linkmesh.toml")]
    Check {
        /// The services that would be run with it, whose required settings must be there; none: whichever have a section
        #[arg(value_name = "SERVICE")]
        services: Vec<ServiceName>,
        /// The configuration, TOML
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Checks.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Check { services, config } = command;
    Configuration::load(config.as_deref(), &services)?;
    print::line("every setting is accepted")
}
