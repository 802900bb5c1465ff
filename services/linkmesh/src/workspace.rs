//! `linkmesh workspace`: tenants.

use clap::Subcommand;
use clap::ValueEnum;
use mesh::Mesh;
use proto::common::v1::Tier;
use proto::identity::v1::SetWorkspaceTierRequest;
use proto::identity::v1::workspaces_service_client::WorkspacesServiceClient;
use proto::identity::v1::workspaces_service_server;
use serde_json::json;
use uuid::Uuid;

use crate::operator;
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
    /// Set what a workspace has paid for: how many requests its callers may make
    #[command(after_long_help = "\
Examples:
  linkmesh workspace set-tier --workspace workspaces/wsp_… premium")]
    SetTier {
        /// The workspace, as `workspaces/wsp_…`
        #[arg(long, value_name = "NAME", env = "LINKMESH_WORKSPACE")]
        workspace: String,
        /// The new tier
        #[arg(value_enum)]
        tier: TierName,
        #[command(flatten)]
        place: Place,
    },
}

/// What a workspace has paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// 100 requests a minute
    Free,
    /// 1,000 requests a minute
    Premium,
    /// 10,000 requests a minute
    Enterprise,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Tier {
        match name {
            TierName::Free => Tier::Free,
            TierName::Premium => Tier::Premium,
            TierName::Enterprise => Tier::Enterprise,
        }
    }
}

/// Does it and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let place = match &command {
        Command::Create { place, .. } | Command::SetTier { place, .. } => place,
    };
    let operator = Operator::find(place)?;
    let mesh = operator.channel(workspaces_service_server::SERVICE_NAME).await?;
    let done = answer(command, mesh.clone()).await;
    mesh.close().await;
    done
}

async fn answer(command: Command, mesh: Mesh) -> anyhow::Result<()> {
    let (name, request_id, output) = match command {
        Command::Create { name, request_id, output, .. } => (name, request_id, output),
        Command::SetTier { workspace, tier, .. } => {
            let request = SetWorkspaceTierRequest {
                name: workspace,
                tier: Tier::from(tier).into(),
                request_id: Uuid::new_v4().to_string(),
            };
            let mut client = WorkspacesServiceClient::new(mesh);
            let set = client.set_workspace_tier(operator::call(request)).await;
            let set = set.map_err(operator::refused("setting the tier"))?.into_inner();
            let workspace = set.workspace.unwrap_or_default();
            return print::line(&format!("{} {}", workspace.name, workspace.tier().as_str_name()));
        }
    };
    let request_id = request_id.unwrap_or_else(Uuid::new_v4);
    let workspace = seed::workspace(mesh, &name, request_id).await?;
    if output.is_json() {
        return print::json(&json!({
            "name": workspace.name, "displayName": workspace.display_name,
        }));
    }
    print::line(&workspace.name)
}
