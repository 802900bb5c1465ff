//! `linkmesh audit`: whether the audit log is what was written.

use anyhow::bail;
use clap::Subcommand;
use proto::identity::v1::VerifyAuditEventsRequest;
use proto::identity::v1::audit_service_client::AuditServiceClient;
use proto::identity::v1::audit_service_server;
use serde_json::json;

use crate::operator;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Recompute the hashes of all events and name the first that is not what was written
    ///
    /// Every event carries the hash of the one before it in its workspace's or user's stream, so that one which was changed, left
    /// out, added or cut off afterwards breaks the chain.
    #[command(after_long_help = "\
Exit codes:
    0  every event is what was written
    1  one is not, or they can't be read")]
    Verify {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
}

/// Verifies and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Verify { output, place } = command;
    let mesh = Operator::find(&place)?.channel(audit_service_server::SERVICE_NAME).await?;
    let verified = verify(AuditServiceClient::new(mesh.clone()), output).await;
    mesh.close().await;
    verified
}

async fn verify(mut client: AuditServiceClient<mesh::Mesh>, output: Output) -> anyhow::Result<()> {
    let (mut verified, mut page_token) = (0, String::new());
    loop {
        let request = operator::call(VerifyAuditEventsRequest { page_token });
        let answer = client.verify_audit_events(request).await;
        let answer = answer.map_err(refused("verifying the audit log"))?.into_inner();
        verified += answer.verified_events;
        if let Some(broken) = answer.broken {
            let stream = broken.stream_id;
            if output.is_json() {
                print::json(&json!({
                    "verifiedEvents": verified,
                    "broken": {"streamId": stream, "sequence": broken.sequence, "message": broken.message},
                }))?;
            }
            bail!("event {} of stream {stream} {}", broken.sequence, broken.message);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output.is_json() {
        return print::json(&json!({ "verifiedEvents": verified }));
    }
    print::line(&format!("{verified} events are what was written"))
}
