//! The `linkmesh` program: which services this process runs, and the operator's commands.
//!
//! A library, so that the system tests build and run exactly what ships; `main.rs` only calls [`main`].

mod analytics_command;
mod api_key;
mod audit_command;
mod command;
mod config;
mod config_check;
mod dev;
mod identity_command;
mod limits;
mod mesh_command;
mod migrate;
mod operator;
mod print;
mod seed;
mod serve;
mod signals;
mod up;
mod workspace;

pub use seed::OPERATOR;
pub use seed::Seed;
pub use seed::seed;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::Cli;
use crate::command::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A setting was refused: `EX_USAGE` of sysexits.h.
const EXIT_BAD_CONFIGURATION: u8 = 64;
/// The version that everything reports.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole program: reads the command line, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    // Before anything can make a TLS connection: two providers in one process make rustls panic at its first use.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        print::problem("another TLS provider was installed before ours");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::problem(&format!("the runtime did not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<print::Said>() => ExitCode::FAILURE,
        Err(error) => {
            print::problem(&format!("{error:#}"));
            match error.downcast_ref::<service::ConfigError>() {
                Some(_) => ExitCode::from(EXIT_BAD_CONFIGURATION),
                None => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    // Boxed: each is large, and only one of them ever runs.
    match command {
        Command::Dev(arguments) => Box::pin(dev::run(arguments)).await,
        Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
        Command::Migrate(arguments) => Box::pin(migrate::run(arguments)).await,
        Command::Up(arguments) => Box::pin(up::run(arguments)).await,
        Command::Mesh { command } => Box::pin(mesh_command::run(command)).await,
        Command::Workspace { command } => Box::pin(workspace::run(command)).await,
        Command::ApiKey { command } => Box::pin(api_key::run(command)).await,
        Command::Identity { command } => Box::pin(identity_command::run(command)).await,
        Command::Analytics { command } => Box::pin(analytics_command::run(command)).await,
        Command::Audit { command } => Box::pin(audit_command::run(command)).await,
        Command::Openapi => print::json(&edge::openapi()),
        Command::Config { command } => config_check::run(command),
    }
}
