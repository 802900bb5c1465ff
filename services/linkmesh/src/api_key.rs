//! `linkmesh api-key`: credentials of workspaces.

use clap::Subcommand;
use clap::ValueEnum;
use jiff::Timestamp;
use proto::common::v1::Scope;
use proto::identity::v1::api_keys_service_server;
use rpc::Permissions;
use serde_json::json;

use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Output;
use crate::seed;
use crate::seed::NewApiKey;

/// Commands about API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an API key and print its secret, this once
    ///
    /// The secret is stored nowhere, only its hash. Clients send it as `authorization: Bearer SECRET`.
    #[command(after_long_help = "\
Examples:
  linkmesh api-key create --workspace workspaces/wsp_… --name ci
  linkmesh api-key create --workspace workspaces/wsp_… --name counts --scope analytics-read
  linkmesh api-key create --workspace workspaces/wsp_… --name trial --expires 2027-01-31T00:00:00Z")]
    Create {
        /// The workspace that the key acts for, as `workspaces/wsp_…`
        #[arg(long, value_name = "NAME", env = "LINKMESH_WORKSPACE")]
        workspace: String,
        /// What people call the key, 1 to 100 characters
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// What the key may do; may be given several times; default: everything in the workspace
        #[arg(long = "scope", value_enum, value_name = "SCOPE")]
        scopes: Vec<ScopeName>,
        /// When the key stops working, RFC 3339; default: never
        #[arg(long, value_name = "TIME")]
        expires: Option<Timestamp>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeName {
    /// Read links and domains
    LinksRead,
    /// Create, change and delete links and domains
    LinksWrite,
    /// Read click counts and watch clicks
    AnalyticsRead,
    /// Read the workspace and its API keys
    WorkspaceRead,
    /// Change the workspace; create and revoke its API keys
    WorkspaceWrite,
    /// Read who the members are, and who is invited
    MembersRead,
    /// Invite members, change their roles, remove them
    MembersWrite,
    /// Read plan, invoices and payment methods
    BillingRead,
    /// Change plan and payment methods
    BillingWrite,
    /// Read the audit log
    AuditRead,
    /// Read service accounts
    ServiceAccountsRead,
    /// Create, change and delete service accounts
    ServiceAccountsWrite,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Scope {
        match name {
            ScopeName::LinksRead => Scope::LinksRead,
            ScopeName::LinksWrite => Scope::LinksWrite,
            ScopeName::AnalyticsRead => Scope::AnalyticsRead,
            ScopeName::WorkspaceRead => Scope::WorkspaceRead,
            ScopeName::WorkspaceWrite => Scope::WorkspaceWrite,
            ScopeName::MembersRead => Scope::MembersRead,
            ScopeName::MembersWrite => Scope::MembersWrite,
            ScopeName::BillingRead => Scope::BillingRead,
            ScopeName::BillingWrite => Scope::BillingWrite,
            ScopeName::AuditRead => Scope::AuditRead,
            ScopeName::ServiceAccountsRead => Scope::ServiceAccountsRead,
            ScopeName::ServiceAccountsWrite => Scope::ServiceAccountsWrite,
        }
    }
}

/// Creates and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Create { workspace, name, scopes, expires, output, place } = command;
    let scopes: Permissions = match scopes.is_empty() {
        true => Permissions::ALL,
        false => scopes.into_iter().map(Scope::from).collect(),
    };
    let operator = Operator::find(&place)?;
    let mesh = operator.channel(api_keys_service_server::SERVICE_NAME).await?;
    let key = NewApiKey {
        workspace: &workspace,
        display_name: &name,
        scopes,
        expire_time: expires.map(rpc::time::to_proto),
    };
    let created = seed::api_key(mesh.clone(), key).await;
    mesh.close().await;
    let created = created?;
    if output.is_json() {
        let name = created.api_key.unwrap_or_default().name;
        return print::json(&json!({"name": name, "secret": created.secret}));
    }
    print::line(&created.secret)
}
