//! The `linkmesh` program, as a library so that the system tests run exactly what ships.

mod seed;
mod up;

pub use seed::{OPERATOR, Seed, seed};

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Branded short links, every click counted exactly once.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in separate processes on this machine, with real etcd, Redis, Kafka and Postgres
    Up(up::Arguments),
}

/// The whole program: reads the command line, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("the system can start threads");
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Up(arguments) => up::run(arguments).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            writeln!(std::io::stderr(), "linkmesh: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
