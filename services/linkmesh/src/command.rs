//! The command line: every subcommand and flag, with help that is enough to work by.

use clap::Parser;
use clap::Subcommand;

/// Branded short links: redirects, clicks counted exactly once, and the services behind them.
#[derive(Debug, Parser)]
#[command(
    name = "linkmesh",
    version,
    max_term_width = 100,
    after_long_help = "\
Examples:
  linkmesh dev                                        everything in one process, to try out
  linkmesh serve links --config /etc/linkmesh.toml    one service, as in a cluster
  linkmesh migrate --config /etc/linkmesh.toml        bring the schemas up to date first
  linkmesh mesh endpoints                             who runs, where, and how they fare
  linkmesh mesh check                                 what is wrong, and what to do about it
  linkmesh workspace create --name Acme               a new tenant

Settings come from one TOML file and, over it, from the environment: `primary` in [links.postgres]
is LINKMESH__LINKS__POSTGRES__PRIMARY there. `linkmesh config check` says what is wrong with them.

Exit codes:
    0  done
    1  failed; the reason is on standard error
    2  the command line makes no sense
   64  a setting was refused
  130  ended by a second Ctrl-C"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(crate::dev::Arguments),
    Serve(crate::serve::Arguments),
    Migrate(crate::migrate::Arguments),
    Up(crate::up::Arguments),
    /// What the processes of a running Linkmesh know of each other
    Mesh {
        #[command(subcommand)]
        command: crate::mesh_command::Command,
    },
    /// Workspaces: the tenants that own links, keys and counts
    Workspace {
        #[command(subcommand)]
        command: crate::workspace::Command,
    },
    /// API keys: how programs prove which workspace they act for
    ApiKey {
        #[command(subcommand)]
        command: crate::api_key::Command,
    },
    /// Personal data, and the keys that it is sealed with
    Identity {
        #[command(subcommand)]
        command: crate::identity_command::Command,
    },
    /// The aggregator that folds clicks into counts: its partitions and its dead letters
    Analytics {
        #[command(subcommand)]
        command: crate::analytics_command::Command,
    },
    /// The log of every security-relevant act
    Audit {
        #[command(subcommand)]
        command: crate::audit_command::Command,
    },
    /// Print the OpenAPI 3.1 document of the public API, as an edge without edge.descriptors_file serves it at /v1/openapi.json
    Openapi,
    /// The configuration
    Config {
        #[command(subcommand)]
        command: crate::config_check::Command,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_is_documented() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{path} {id} says nothing about itself");
            }
            command.get_subcommands().for_each(|below| visit(below, &path));
        }
        visit(&Cli::command(), "");
    }
}
