//! The command line of `linkmesh mesh policy`.

use clap::Args;
use clap::Subcommand;

use super::compare::Color;
use super::files::Files;
use super::show::Format;
use crate::operator::Place;
use crate::print::Output;

/// How services are called and who may call them
///
/// A policy is a YAML file: timeouts, retries, hedges, splits, mirrors, faults, health, who may call what, limits. What it leaves
/// out has its default. Every process obeys a change within moments, without a restart. manifests/policies has an example;
/// proto/linkmesh/mesh/v1/policy.proto says what each field means and takes.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy validate -f links.yaml
  linkmesh mesh policy diff -f links.yaml
  linkmesh mesh policy apply -f links.yaml --note \"half the traffic to 0.2\"
  linkmesh mesh policy get links > links.yaml
  linkmesh mesh policy history links
  linkmesh mesh policy rollback links")]
pub(crate) enum Command {
    Apply(ApplyArguments),
    Get(GetArguments),
    Diff(DiffArguments),
    History(HistoryArguments),
    Rollback(RollbackArguments),
    Validate(ValidateArguments),
    Delete(DeleteArguments),
}

/// Put policies in force
///
/// All files are validated first; if anything is wrong, nothing changes. The same policy again changes nothing either. Takes an
/// operator whose role is admin.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy apply -f links.yaml -f edge.yaml
  linkmesh mesh policy get links | sed 's/800ms/1s/' | linkmesh mesh policy apply -f -
  linkmesh mesh policy apply -f links.yaml --dry-run            what would happen
  linkmesh mesh policy apply -f links.yaml --expect-revision 4  only if nobody changed it since")]
pub(crate) struct ApplyArguments {
    #[command(flatten)]
    pub(super) files: Files,
    /// Validate and compare only
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) note: String,
    /// Only in place of this revision; 0: only if the service has no policy
    #[arg(long, value_name = "REVISION")]
    pub(super) expect_revision: Option<i64>,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Show the policies that are in force
///
/// Of one service as YAML, ready to be edited and applied; of all as a table. PROBLEM says why processes can't use what is
/// stored, if someone wrote it past `linkmesh mesh policy`: they keep the last one that they could.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy get
  linkmesh mesh policy get links
  linkmesh mesh policy get links --revision 3      as it was
  linkmesh mesh policy get -o json")]
pub(crate) struct GetArguments {
    /// Only this service's
    pub(super) service: Option<String>,
    /// As it was at this revision
    #[arg(long, value_name = "REVISION", requires = "service")]
    pub(super) revision: Option<i64>,
    /// `table`, `yaml` or `json`; default: YAML of one service, a table of all
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Compare files with what is in force
///
/// Exits with 1 if applying them would change anything.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy diff -f links.yaml
  linkmesh mesh policy diff -f links.yaml && echo in force")]
pub(crate) struct DiffArguments {
    #[command(flatten)]
    pub(super) files: Files,
    /// Whether lines are coloured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(super) color: Color,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: Place,
}

/// List the last 50 policies that a service had
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy history links
  linkmesh mesh policy history links -o json")]
pub(crate) struct HistoryArguments {
    /// The service
    pub(super) service: String,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Put an earlier policy in force again
///
/// It is stored anew, under a new revision. Takes an operator whose role is admin.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy rollback links                the one before
  linkmesh mesh policy rollback links --revision 3")]
pub(crate) struct RollbackArguments {
    /// The service
    pub(super) service: String,
    /// The revision, as `linkmesh mesh policy history` numbers them; default: the one before the last, or the
    /// last one if what is stored now can't be used
    #[arg(long, value_name = "REVISION")]
    pub(super) revision: Option<i64>,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) note: String,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Say what is wrong with files, by line and field; asks nobody
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy validate -f links.yaml
  linkmesh mesh policy validate -f manifests/policies/*.yaml")]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    pub(super) files: Files,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Remove a service's policy: the defaults hold again
///
/// The history stays, so `linkmesh mesh policy rollback` brings it back. Takes an operator whose role is admin.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy delete links --note \"the experiment is over\"")]
pub(crate) struct DeleteArguments {
    /// The service
    pub(super) service: String,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) note: String,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) place: Place,
}
