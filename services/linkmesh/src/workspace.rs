//! `linkmesh workspace`: tenants.

use clap::Subcommand;
use proto::identity::v1::workspaces_service_server;
use serde_json::json;
use uuid::Uuid;

use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Output;
use crate::seed;

/// Commands about workspaces.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a workspace and print its name
    ///
    /// A workspace owns links, domains, keys and counts, and no call ever sees another's. Make an API key for it next.
    #[command(after_long_help = "\
Examples:
  linkmesh workspace create --name \"Acme\"
  linkmesh api-key create --workspace \"$(linkmesh workspace create --name Acme)\" --name ci")]
    Create {
        /// What people call it, 1 to 100 characters
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// A UUID: the same one again answers with the same workspace, for 7 days
        #[arg(long, value_name = "UUID")]
        request_id: Option<Uuid>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
}

/// Creates and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Create { name, request_id, output, place } = command;
    let operator = Operator::find(&place)?;
    let mesh = operator.channel(workspaces_service_server::SERVICE_NAME).await?;
    let request_id = request_id.unwrap_or_else(Uuid::new_v4);
    let created = seed::workspace(mesh.clone(), &name, request_id).await;
    mesh.close().await;
    let workspace = created?;
    if output.is_json() {
        return print::json(&json!({
            "name": workspace.name, "displayName": workspace.display_name,
        }));
    }
    print::line(&workspace.name)
}
