//! `linkmesh identity`: what an operator does to personal data as a whole.

use std::path::PathBuf;

use clap::Subcommand;
use identity::Progress;
use serde_json::json;

use crate::config::Configuration;
use crate::config::ServiceName;
use crate::print;
use crate::print::Output;

/// Values of one transaction, at least and at most.
const BATCH: std::ops::RangeInclusive<i64> = 1..=10_000;

/// Commands about personal data.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Seal personal data with the active key of the keyring
    ///
    /// For when a key is to be replaced: add the new one to the keyring of every instance, restart them, make it active, restart them
    /// again, run this, and take the old one out once it says that nothing is left. It may be stopped and run again at any time, and
    /// while services serve. Keyed hashes for look-ups are not touched: their key stays.
    #[command(after_long_help = "\
Examples:
  linkmesh identity reseal --config /etc/linkmesh.toml
  linkmesh identity reseal --config /etc/linkmesh.toml --batch 100    shorter locks")]
    Reseal {
        /// Values of one transaction, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(BATCH))]
        batch: u32,
        /// The configuration, TOML; the environment (LINKMESH__SECTION__KEY) lies over it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
}

/// Runs one.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Reseal { batch, config, output } = command;
    let configuration = Configuration::load(config.as_deref(), &[ServiceName::Identity])?;
    let section = configuration.identity.expect("its section was wanted");
    let done = identity::reseal(&section.config, batch, |progress| match output.is_json() {
        true => Ok(()),
        false => print::line(&shown(progress)),
    });
    let Progress { done, of } = done.await?;
    if output.is_json() {
        return print::json(&json!({ "resealed": done, "found": of }));
    }
    print::line("nothing is left that another key has sealed")
}

fn shown(progress: Progress) -> String {
    format!("{} of {} values sealed with the active key", progress.done, progress.of)
}
