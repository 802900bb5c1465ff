//! `linkmesh mesh cert status`.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::GetIdentityRequest;
use proto::mesh::v1::GetIdentityResponse;
use proto::mesh::v1::identity_service_client::IdentityServiceClient;
use proto::mesh::v1::identity_service_server::SERVICE_NAME;
use serde_json::json;
use tonic::Request;

use crate::mesh_command::endpoints::age;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Output;

/// How long one process may take to answer, connecting included.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// How many are asked at the same time.
const ASKED_MAX: usize = 64;
/// How many digits of a root's fingerprint tell it from the others.
const SHORT: usize = 12;

/// Show the certificate of every instance, when it runs out, and the roots that it trusts
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh cert status
  linkmesh mesh cert status --service links -o json")]
pub(crate) struct Arguments {
    /// Only instances of this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What an instance said, or why it did not.
pub(super) struct Seen {
    pub(super) instance: String,
    pub(super) identity: Result<GetIdentityResponse, String>,
}

/// Asks and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { service, output, place } = arguments;
    let seen = look(&Operator::find(&place)?, &service).await?;
    if output.is_json() {
        let instances: Vec<_> = seen.iter().map(as_json).collect();
        return print::json(&json!({ "instances": instances }));
    }
    let now = Timestamp::now();
    let heading =
        ["INSTANCE", "IDENTITY", "ROOT", "TRUSTS", "RUNS OUT IN", "ROTATIONS", "ISSUER", "PROBLEM"];
    let rows: Vec<_> = seen.iter().map(|seen| row(seen, now)).collect();
    print::table(&heading, &rows)
}

/// Asks every instance of a service, or of all.
pub(super) async fn look(operator: &Operator, service: &str) -> anyhow::Result<Vec<Seen>> {
    let known = operator.endpoints(service).await?.endpoints;
    let asked = known.iter().map(|endpoint| ask(operator, endpoint));
    Ok(stream::iter(asked).buffered(ASKED_MAX).collect().await)
}

async fn ask(operator: &Operator, endpoint: &Endpoint) -> Seen {
    let answered = async {
        let mesh = operator.channel_to(endpoint, SERVICE_NAME)?;
        let mut request = Request::new(GetIdentityRequest {});
        request.set_timeout(ANSWER_WAIT_MAX);
        let answer = IdentityServiceClient::new(mesh.clone()).get_identity(request).await;
        mesh.close().await;
        anyhow::Ok(answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner())
    };
    let identity = answered.await.map_err(|error| format!("{error:#}"));
    Seen { instance: endpoint.instance.clone(), identity }
}

fn as_json(seen: &Seen) -> serde_json::Value {
    match &seen.identity {
        Ok(identity) => json!({
            "instance": seen.instance,
            "spiffeId": identity.spiffe_id,
            "notBefore": time(identity.not_before).map(|time| time.to_string()),
            "notAfter": time(identity.not_after).map(|time| time.to_string()),
            "root": identity.root,
            "trustedRoots": identity.trusted_roots,
            "issuer": identity.issuer,
            "rotations": identity.rotations,
            "lastFailure": identity.last_failure,
        }),
        Err(error) => json!({ "instance": seen.instance, "error": error }),
    }
}

fn row(seen: &Seen, now: Timestamp) -> Vec<String> {
    let identity = match &seen.identity {
        Ok(identity) => identity,
        Err(error) => {
            let mut row = vec![seen.instance.clone()];
            row.resize(7, "-".to_owned());
            row.push(error.clone());
            return row;
        }
    };
    let trusted: Vec<_> = identity.trusted_roots.iter().map(|root| short(root)).collect();
    let left = time(identity.not_after).map(|end| end.duration_since(now).as_secs());
    vec![
        seen.instance.clone(),
        identity.spiffe_id.trim_start_matches("spiffe://linkmesh/").to_owned(),
        short(&identity.root).to_owned(),
        trusted.join(","),
        left.map_or_else(|| "-".to_owned(), age),
        identity.rotations.to_string(),
        identity.issuer.clone(),
        identity.last_failure.clone(),
    ]
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT).unwrap_or(fingerprint)
}

fn time(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    rpc::time::from_proto("not_after", &time?).ok()
}
