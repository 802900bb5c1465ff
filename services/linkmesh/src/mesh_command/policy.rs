//! `linkmesh mesh policy`: how services are called and who may call them, as files that people keep.
//!
//! Whatever is wrong with a file is said before anybody is asked, by its line and field; and of several files all are applied
//! only once all are right.

mod arguments;
mod compare;
mod files;
mod show;

pub(crate) use self::arguments::Command;

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
use crate::print::Said;

use self::arguments::ApplyArguments;
use self::arguments::DeleteArguments;
use self::arguments::DiffArguments;
use self::arguments::GetArguments;
use self::arguments::HistoryArguments;
use self::arguments::RollbackArguments;
use self::arguments::ValidateArguments;
use self::show::Format;

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
