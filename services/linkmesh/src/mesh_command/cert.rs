//! `linkmesh mesh cert`: who has which certificate, who may get one, and whom to trust.

mod operator;
mod rotate_root;
mod status;
mod token;

use clap::Subcommand;

/// Certificates: operators' own, those of the processes, tokens to join by, and the root
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Operator(operator::Arguments),
    Status(status::Arguments),
    #[command(subcommand)]
    JoinToken(token::Command),
    RotateRoot(rotate_root::Arguments),
}

/// Asks and prints.
pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Operator(arguments) => operator::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::JoinToken(command) => token::run(command).await,
        Command::RotateRoot(arguments) => rotate_root::run(arguments).await,
    }
}

/// Reads a length of time, such as `8h`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let expected = "expected a whole number and ms, s, m, h or d, such as 8h";
    service::duration::parse(text).ok_or_else(|| expected.to_owned())
}
