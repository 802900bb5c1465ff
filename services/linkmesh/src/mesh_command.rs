//! `linkmesh mesh`: who runs, who calls whom, how that goes, and what is wrong.

mod cert;
mod check;
mod diagnosis;
mod drain;
mod edges;
mod endpoints;
mod fleet;
mod policy;
mod routes;
mod sample;
mod screen;
mod show;
mod stat;
mod tap;
mod tap_line;
mod top;
mod undrain;

use clap::Subcommand;

/// Commands about the mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Endpoints(endpoints::Arguments),
    Edges(edges::Arguments),
    Stat(stat::Arguments),
    Top(top::Arguments),
    Tap(tap::Arguments),
    Routes(routes::Arguments),
    Drain(drain::Arguments),
    Undrain(undrain::Arguments),
    Check(check::Arguments),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(subcommand)]
    Cert(cert::Command),
}

/// Asks and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Endpoints(arguments) => endpoints::run(arguments).await,
        Command::Edges(arguments) => edges::run(arguments).await,
        Command::Stat(arguments) => stat::run(arguments).await,
        Command::Top(arguments) => top::run(arguments).await,
        Command::Tap(arguments) => tap::run(arguments).await,
        Command::Routes(arguments) => routes::run(arguments).await,
        Command::Drain(arguments) => drain::run(arguments).await,
        Command::Undrain(arguments) => undrain::run(arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
        Command::Policy(command) => policy::run(command).await,
        Command::Cert(command) => cert::run(command).await,
    }
}
