//! `linkmesh mesh drain`.

use clap::Args;
use proto::mesh::v1::DrainRequest;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server::SERVICE_NAME;
use serde_json::json;

use super::fleet;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// Take an instance out of rotation: callers choose others, and it goes on serving what comes
///
/// The registry says that the instance is leaving, as at a stop, and the instance stays as it is: to look at it without traffic,
/// or to see whether the others can do without. It lasts until `linkmesh mesh undrain`, or until the instance is restarted.
/// Takes an operator whose role is admin.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh drain links-2
  linkmesh mesh endpoints --service links          STATE says draining
  linkmesh mesh undrain links-2")]
pub(crate) struct Arguments {
    /// The instance, as `linkmesh mesh endpoints` names it
    instance: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Asks and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { instance, output, place } = arguments;
    let operator = Operator::find(&place)?;
    let endpoint = operator.instance(&instance).await?;
    let mesh = operator.channel_to(&endpoint, SERVICE_NAME)?;
    let answer = MeshServiceClient::new(mesh.clone()).drain(fleet::question(DrainRequest {})).await;
    mesh.close().await;
    let answer = answer.map_err(refused(&format!("draining {instance}")))?.into_inner();
    if output.is_json() {
        return print::json(&json!({
            "instance": answer.instance, "registryReached": answer.registry_reached,
        }));
    }
    let registry = match answer.registry_reached {
        true => "",
        false => "; the registry can't be reached, and is told as soon as it can",
    };
    print::line(&format!("{} is out of rotation{registry}", answer.instance))
}
