//! `linkmesh mesh undrain`.

use clap::Args;
use proto::mesh::v1::UndrainRequest;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server::SERVICE_NAME;
use serde_json::json;

use super::fleet;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// Put an instance back into rotation that was taken out by `linkmesh mesh drain`
///
/// Callers choose it again within moments.
/// Takes an operator whose role is admin.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
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
    let answer =
        MeshServiceClient::new(mesh.clone()).undrain(fleet::question(UndrainRequest {})).await;
    mesh.close().await;
    let answer = answer.map_err(refused(&format!("undraining {instance}")))?.into_inner();
    if output.is_json() {
        return print::json(&json!({
            "instance": answer.instance, "registryReached": answer.registry_reached,
        }));
    }
    let registry = match answer.registry_reached {
        true => "",
        false => "; the registry can't be reached, and is told as soon as it can",
    };
    print::line(&format!("{} is back in rotation{registry}", answer.instance))
}
