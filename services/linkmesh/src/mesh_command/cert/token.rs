//! `linkmesh mesh cert join-token`.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::Subcommand;
use mesh::Mesh;
use proto::mesh::v1::CreateJoinTokenRequest;
use proto::mesh::v1::JoinToken;
use proto::mesh::v1::ListJoinTokensRequest;
use proto::mesh::v1::RevokeJoinTokenRequest;
use proto::mesh::v1::certificate_admin_service_client::CertificateAdminServiceClient;
use proto::mesh::v1::certificate_admin_service_server::SERVICE_NAME;
use serde_json::json;

use crate::operator;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// Tokens by which processes without a certificate join the mesh
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token; its text is printed this once, to be put into the file that `mesh.join_token` names
    #[command(after_long_help = "\
Examples:
  linkmesh mesh cert join-token create --service links > /etc/linkmesh/join-token
  linkmesh mesh cert join-token create --service links --service edge --uses 10 --life 24h")]
    Create(Create),
    /// List the tokens that have not run out
    List {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
    /// End a token; who has joined by it stays
    Revoke {
        /// The token, as `list` names it
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// What a new token is to be.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// A service that processes may join as; may be given several times
    #[arg(long = "service", value_name = "SERVICE", required = true)]
    services: Vec<String>,
    /// How long it is taken, 1m to 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::duration)]
    life: Duration,
    /// How many processes may join by it, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    uses: u32,
    /// What it is for
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
        Command::Create(create) => {
            let Create { services, life, uses, note, output, place } = create;
            let life = Some(life.try_into().context("--life is too long")?);
            let request = CreateJoinTokenRequest { services, life, uses_max: uses, note };
            let mesh = channel(&place).await?;
            let mut client = CertificateAdminServiceClient::new(mesh.clone());
            let answer = client.create_join_token(operator::call(request)).await;
            mesh.close().await;
            let answer = answer.map_err(refused("making a join token"))?.into_inner();
            if output.is_json() {
                let token = answer.token.as_ref().map(as_json);
                return print::json(&json!({ "token": token, "text": answer.text }));
            }
            // Alone on standard output, for a file.
            print::line(&answer.text)
        }
        Command::List { output, place } => {
            let mesh = channel(&place).await?;
            let mut client = CertificateAdminServiceClient::new(mesh.clone());
            let answer = client.list_join_tokens(operator::call(ListJoinTokensRequest {})).await;
            mesh.close().await;
            let tokens = answer.map_err(refused("listing join tokens"))?.into_inner().tokens;
            if output.is_json() {
                let tokens: Vec<_> = tokens.iter().map(as_json).collect();
                return print::json(&json!({ "tokens": tokens }));
            }
            let rows: Vec<_> = tokens.iter().map(row).collect();
            print::table(&["ID", "SERVICES", "USES", "RUNS OUT", "NOTE"], &rows)
        }
        Command::Revoke { id, place } => {
            let mesh = channel(&place).await?;
            let request = operator::call(RevokeJoinTokenRequest { id: id.clone() });
            let mut client = CertificateAdminServiceClient::new(mesh.clone());
            let answer = client.revoke_join_token(request).await;
            mesh.close().await;
            answer.map_err(refused(&format!("revoking {id}")))?;
            print::line(&format!("{id} is taken no more"))
        }
    }
}

async fn channel(place: &Place) -> anyhow::Result<Mesh> {
    Operator::find(place)?.channel(SERVICE_NAME).await
}

fn as_json(token: &JoinToken) -> serde_json::Value {
    json!({
        "id": token.id, "services": token.services, "uses": token.uses, "usesMax": token.uses_max,
        "expireTime": expires(token), "note": token.note,
    })
}

fn row(token: &JoinToken) -> Vec<String> {
    vec![
        token.id.clone(),
        token.services.join(","),
        format!("{}/{}", token.uses, token.uses_max),
        expires(token).unwrap_or_default(),
        token.note.clone(),
    ]
}

fn expires(token: &JoinToken) -> Option<String> {
    let time = rpc::time::from_proto("expire_time", &token.expire_time?).ok()?;
    Some(time.to_string())
}
