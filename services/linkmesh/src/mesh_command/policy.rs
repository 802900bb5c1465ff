//! `linkmesh mesh policy`: how services are called and who may call them, as files that people keep.
//!
//! Whatever is wrong with a file is said before anybody is asked, by its line and field; and of several files all are applied
//! only once all are right.

mod compare;
mod files;
mod show;

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use mesh::Mesh;
use proto::mesh::v1::ApplyPolicyRequest;
use proto::mesh::v1::DeletePolicyRequest;
use proto::mesh::v1::ListPoliciesRequest;
use proto::mesh::v1::ListPolicyRevisionsRequest;
use proto::mesh::v1::PolicyRevision;
use proto::mesh::v1::RollbackPolicyRequest;
use proto::mesh::v1::ValidatePolicyRequest;
use proto::mesh::v1::policy_service_client::PolicyServiceClient;
use proto::mesh::v1::policy_service_server::SERVICE_NAME;
use serde_json::json;

use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::call;
use crate::operator::refused;
use crate::print;
use crate::print::Output;
use crate::print::Said;

use self::show::Format;

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
    files: files::Files,
    /// Validate and compare only
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Only in place of this revision; 0: only if the service has no policy
    #[arg(long, value_name = "REVISION")]
    expect_revision: Option<i64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
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
    service: Option<String>,
    /// As it was at this revision
    #[arg(long, value_name = "REVISION", requires = "service")]
    revision: Option<i64>,
    /// `table`, `yaml` or `json`; default: YAML of one service, a table of all
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    #[command(flatten)]
    place: Place,
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
    files: files::Files,
    /// Whether lines are coloured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    color: compare::Color,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// List the last 50 policies that a service had
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy history links
  linkmesh mesh policy history links -o json")]
pub(crate) struct HistoryArguments {
    /// The service
    service: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
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
    service: String,
    /// The revision, as `linkmesh mesh policy history` numbers them; default: the one before the last, or the
    /// last one if what is stored now can't be used
    #[arg(long, value_name = "REVISION")]
    revision: Option<i64>,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Say what is wrong with files, by line and field; asks nobody
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh policy validate -f links.yaml
  linkmesh mesh policy validate -f manifests/policies/*.yaml")]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    files: files::Files,
    #[command(flatten)]
    output: Output,
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
    service: String,
    /// Why, for the history; at most 1,000 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Asks and prints.
pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Apply(arguments) => apply(arguments).await,
        Command::Get(arguments) => get(arguments).await,
        Command::Diff(arguments) => diff(arguments).await,
        Command::History(arguments) => history(arguments).await,
        Command::Rollback(arguments) => roll_back(arguments).await,
        Command::Validate(arguments) => validate(&arguments),
        Command::Delete(arguments) => delete(arguments).await,
    }
}

/// Control, while a command asks it.
struct Control {
    mesh: Mesh,
    client: PolicyServiceClient<Mesh>,
}

impl Control {
    async fn find(place: &Place) -> anyhow::Result<Control> {
        let mesh = Operator::find(place)?.channel(SERVICE_NAME).await?;
        Ok(Control { client: PolicyServiceClient::new(mesh.clone()), mesh })
    }

    /// What is stored for a service.
    async fn stored(&mut self, service: &str) -> anyhow::Result<Option<PolicyRevision>> {
        let request = ListPoliciesRequest { service: service.to_owned() };
        let listed = self.client.list_policies(call(request)).await;
        let listed = listed.map_err(refused("reading the policies"))?;
        Ok(listed.into_inner().policies.into_iter().next())
    }

    async fn history(&mut self, service: &str) -> anyhow::Result<Vec<PolicyRevision>> {
        let request = ListPolicyRevisionsRequest { service: service.to_owned() };
        let history = self.client.list_policy_revisions(call(request)).await;
        let doing = format!("reading the history of the policy of {service}");
        Ok(history.map_err(refused(&doing))?.into_inner().revisions)
    }
}

async fn apply(arguments: ApplyArguments) -> anyhow::Result<()> {
    let ApplyArguments { files, dry_run, note, expect_revision, output, place } = arguments;
    let policies = files.read()?;
    anyhow::ensure!(
        expect_revision.is_none() || policies.len() == 1,
        "--expect-revision: is about one policy, and there are {}",
        policies.len()
    );
    let mut control = Control::find(&place).await?;
    let mut rows = Vec::new();
    let mut failed = None;
    for policy in policies {
        let service = policy.service.clone();
        let done = if dry_run {
            would_apply(&mut control, policy).await
        } else {
            let request = ApplyPolicyRequest {
                policy: Some(policy),
                expected_revision: expect_revision,
                note: note.clone(),
            };
            apply_one(&mut control, &service, request).await
        };
        match done {
            Ok((revision, result)) => rows.push((service, revision, result)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    control.mesh.close().await;
    // What was done is said also if it was not all.
    if output.is_json() {
        let applied = rows.iter().map(|(service, revision, result)| {
            json!({"service": service, "revision": revision, "result": result})
        });
        print::json(&json!({ "policies": applied.collect::<Vec<_>>() }))?;
    } else {
        for (service, revision, result) in &rows {
            print::line(&format!("{service}: {result} (revision {revision})"))?;
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn apply_one(
    control: &mut Control,
    service: &str,
    request: ApplyPolicyRequest,
) -> anyhow::Result<(i64, &'static str)> {
    let before = control.stored(service).await?;
    let applied = control.client.apply_policy(call(request)).await;
    let applied = applied.map_err(refused(&format!("applying the policy of {service}")))?;
    let revision = applied.into_inner().revision.unwrap_or_default().revision;
    let was_there = before.is_some_and(|before| before.revision == revision);
    Ok((revision, if was_there { "unchanged" } else { "applied" }))
}

async fn would_apply(
    control: &mut Control,
    policy: proto::mesh::v1::ServicePolicy,
) -> anyhow::Result<(i64, &'static str)> {
    let service = policy.service.clone();
    let request = ValidatePolicyRequest { policy: Some(policy.clone()) };
    let validated = control.client.validate_policy(call(request)).await;
    validated.map_err(refused(&format!("validating the policy of {service}")))?;
    let before = control.stored(&service).await?.unwrap_or_default();
    let is_same = before.policy.as_ref() == Some(&policy);
    Ok((before.revision, if is_same { "would not change" } else { "would change" }))
}

async fn get(arguments: GetArguments) -> anyhow::Result<()> {
    let GetArguments { service, revision, format, place } = arguments;
    let mut control = Control::find(&place).await?;
    let shown = match (&service, revision) {
        (Some(service), Some(revision)) => {
            let history = control.history(service).await?;
            history.into_iter().filter(|it| it.revision == revision).collect()
        }
        (Some(service), None) => control.stored(service).await?.into_iter().collect(),
        (None, _) => {
            let listed = control.client.list_policies(call(ListPoliciesRequest::default())).await;
            listed.map_err(refused("reading the policies"))?.into_inner().policies
        }
    };
    control.mesh.close().await;
    if let (Some(service), true) = (&service, shown.is_empty()) {
        match revision {
            Some(revision) => anyhow::bail!(
                "{service} never had revision {revision}, or has had 50 since: see `linkmesh mesh policy history {service}`"
            ),
            None => anyhow::bail!("{service} has no policy: it has the defaults"),
        }
    }
    let default = if service.is_some() { Format::Yaml } else { Format::Table };
    show::policies(&shown, format.unwrap_or(default))
}

async fn diff(arguments: DiffArguments) -> anyhow::Result<()> {
    let DiffArguments { files, color, output, place } = arguments;
    let policies = files.read()?;
    let mut control = Control::find(&place).await?;
    let mut compared = Vec::new();
    for policy in policies {
        let stored = control.stored(&policy.service).await?;
        compared.push(compare::Compared::new(stored, &policy));
    }
    control.mesh.close().await;
    if output.is_json() {
        let differences = compared.iter().map(compare::Compared::json);
        print::json(&json!({ "policies": differences.collect::<Vec<_>>() }))?;
    } else {
        for compared in &compared {
            compared.print(color)?;
        }
    }
    // As diff does, for scripts.
    if compared.iter().any(|it| it.differs) { Err(Said.into()) } else { Ok(()) }
}

async fn history(arguments: HistoryArguments) -> anyhow::Result<()> {
    let HistoryArguments { service, output, place } = arguments;
    let mut control = Control::find(&place).await?;
    let history = control.history(&service).await;
    control.mesh.close().await;
    let history = history?;
    anyhow::ensure!(output.is_json() || !history.is_empty(), "{service} never had a policy");
    show::history(&history, output)
}

async fn roll_back(arguments: RollbackArguments) -> anyhow::Result<()> {
    let RollbackArguments { service, revision, note, output, place } = arguments;
    let mut control = Control::find(&place).await?;
    let revision = match revision {
        Some(revision) => revision,
        None => before_last(&mut control, &service).await?,
    };
    let request = RollbackPolicyRequest { service: service.clone(), revision, note };
    let stored = control.client.rollback_policy(call(request)).await;
    control.mesh.close().await;
    let doing = format!("rolling the policy of {service} back to revision {revision}");
    let stored = stored.map_err(refused(&doing))?.into_inner().revision.unwrap_or_default();
    if output.is_json() {
        return print::json(&show::json(&stored));
    }
    let said = match stored.policy {
        Some(_) => format!("as it was at revision {revision}"),
        None => format!("removed, as it was at revision {revision}"),
    };
    print::line(&format!("{service}: {said} (revision {})", stored.revision))
}

/// The revision that held before what is stored now; the last one, if what is stored was not stored by control.
async fn before_last(control: &mut Control, service: &str) -> anyhow::Result<i64> {
    let is_foreign =
        control.stored(service).await?.is_some_and(|stored| !stored.problem.is_empty());
    let history = control.history(service).await?;
    let before = history.get(usize::from(!is_foreign)).map(|before| before.revision);
    before.ok_or_else(|| anyhow::anyhow!("{service} had no policy before the last one"))
}

fn validate(arguments: &ValidateArguments) -> anyhow::Result<()> {
    let policies = arguments.files.read()?;
    if arguments.output.is_json() {
        let services: Vec<_> = policies.iter().map(|policy| &policy.service).collect();
        return print::json(&json!({ "valid": services }));
    }
    for policy in policies {
        print::line(&format!("{}: valid", policy.service))?;
    }
    Ok(())
}

async fn delete(arguments: DeleteArguments) -> anyhow::Result<()> {
    let DeleteArguments { service, note, output, place } = arguments;
    let mut control = Control::find(&place).await?;
    let request = DeletePolicyRequest { service: service.clone(), note };
    let deleted = control.client.delete_policy(call(request)).await;
    control.mesh.close().await;
    deleted.map_err(refused(&format!("removing the policy of {service}")))?;
    if output.is_json() {
        return print::json(&json!({ "service": service, "result": "removed" }));
    }
    print::line(&format!("{service}: removed; the defaults hold"))
}
