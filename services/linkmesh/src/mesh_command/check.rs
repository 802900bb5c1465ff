//! `linkmesh mesh check`: what is wrong with the mesh, in words, with what to do next.
//!
//! It asks every process that it knows or hears of, and takes whatever answers: it must work best when much is broken.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::GetDiagnosisRequest;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::ListRoutesRequest;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server::SERVICE_NAME;
use serde_json::json;
use tonic::Request;
use tonic::Status;

use super::diagnosis;
use super::diagnosis::Finding;
use super::diagnosis::Process;
use super::diagnosis::Report;
use super::diagnosis::Verdict;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Output;

/// How long one process may take to say how it is: it asks its registry, which may be away.
const DIAGNOSIS_WAIT_MAX: Duration = Duration::from_secs(5);
/// How many processes are asked at the same time.
const ASKED_MAX: usize = 64;

/// Look for what is wrong with the mesh, and say what to do about it
///
/// Asks every process that is known here, and every process that those know, whether it can be reached, what its clock says, what
/// it proves itself with, how its registry is, which policies it has in force, and which others it does not use. Works also when etcd or
/// some of the processes are down. Exits with 1 if something is wrong (×); what is only worth knowing is marked with !.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh check
  linkmesh mesh check -o json
  linkmesh mesh check --address links=10.0.3.7:7002 --authority /etc/linkmesh-authority")]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Asks, prints, and fails if something is wrong.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { output, place } = arguments;
    let operator = Operator::find(&place)?;
    let processes = ask_all(&operator).await;
    let findings = diagnosis::findings(&processes, operator.identity(), Timestamp::now());
    let wrong = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if output.is_json() {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        print::json(&json!({ "healthy": wrong == 0, "findings": findings }))?;
    } else {
        lines(&findings).iter().try_for_each(|line| print::line(line))?;
    }
    match wrong {
        0 => Ok(()),
        1 => anyhow::bail!("one thing is wrong with the mesh"),
        _ => anyhow::bail!("{wrong} things are wrong with the mesh"),
    }
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            area = finding.area;
            lines.push(area.to_owned());
        }
        let mark = match finding.verdict {
            Verdict::Good => '✓',
            Verdict::Doubtful => '!',
            Verdict::Bad => '×',
        };
        lines.push(format!("  {mark} {}", finding.text));
        lines.extend(finding.next.iter().map(|next| format!("      → {next}")));
    }
    lines
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "area": finding.area,
        "verdict": match finding.verdict {
            Verdict::Good => "good",
            Verdict::Doubtful => "doubtful",
            Verdict::Bad => "bad",
        },
        "text": finding.text,
        "next": finding.next,
    })
}

/// Those that are known, then those that they know, each once.
async fn ask_all(operator: &Operator) -> Vec<Process> {
    let known = operator.processes().map(|(service, address)| Endpoint {
        service: service.to_owned(),
        address: address.to_owned(),
        ..Endpoint::default()
    });
    let mut asked = ask(operator, known.collect()).await;
    // By where it is: a process that was known by its address alone has told its name meanwhile.
    let mut heard: BTreeMap<(String, String), Endpoint> = BTreeMap::new();
    for endpoint in asked.iter().filter_map(Process::report).flat_map(|it| &it.endpoints.endpoints)
    {
        let place = (endpoint.service.clone(), endpoint.address.clone());
        heard.entry(place).or_insert_with(|| endpoint.clone());
    }
    for process in &mut asked {
        if let Some(endpoint) = heard.remove(&(process.service.clone(), process.address.clone())) {
            process.instance = endpoint.instance;
        }
    }
    asked.extend(ask(operator, heard.into_values().collect()).await);
    // Of an address without a service, each service was tried: one that answers is enough.
    let answering: Vec<String> = asked
        .iter()
        .filter(|process| process.report().is_some())
        .map(|process| process.address.clone())
        .collect();
    asked.retain(|process| process.report().is_some() || !answering.contains(&process.address));
    asked.sort_by(|a, b| {
        (&a.service, &a.instance, &a.address).cmp(&(&b.service, &b.instance, &b.address))
    });
    asked
}

async fn ask(operator: &Operator, endpoints: Vec<Endpoint>) -> Vec<Process> {
    let asked = endpoints.into_iter().map(|endpoint| async move {
        let answer = match report(operator, &endpoint).await {
            Ok(report) => Ok(Box::new(report)),
            Err(status) => Err(why(operator, &endpoint, &status).await),
        };
        let Endpoint { service, instance, address, .. } = endpoint;
        let instance = answer.as_ref().map_or(instance, |it| it.diagnosis.instance.clone());
        Process { service, instance, address, answer }
    });
    stream::iter(asked).buffered(ASKED_MAX).collect().await
}

async fn report(operator: &Operator, endpoint: &Endpoint) -> Result<Report, Status> {
    let mesh = operator
        .channel_to(endpoint, SERVICE_NAME)
        .map_err(|error| Status::internal(format!("{error:#}")))?;
    let report = ask_one(MeshServiceClient::new(mesh.clone())).await;
    mesh.close().await;
    report
}

async fn ask_one(mut client: MeshServiceClient<mesh::Mesh>) -> Result<Report, Status> {
    // Once before anything is measured, so that no handshake is taken for a clock's error.
    let request = ListEndpointsRequest { service: String::new() };
    let endpoints = client.list_endpoints(within(request)).await?.into_inner();
    let request = ListRoutesRequest { service: String::new() };
    let routes = client.list_routes(within(request)).await?.into_inner();
    let (asked, asked_at) = (Instant::now(), Timestamp::now());
    let diagnosis = client.get_diagnosis(within(GetDiagnosisRequest {})).await?.into_inner();
    Ok(Report { diagnosis, endpoints, routes, asked_at, took: asked.elapsed() })
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DIAGNOSIS_WAIT_MAX);
    request
}

/// Why a process did not answer: the cause, if it can't be reached at all.
async fn why(operator: &Operator, endpoint: &Endpoint, status: &Status) -> String {
    match mesh::reach(operator.identity(), &endpoint.service, &endpoint.address).await {
        Ok(_) => status.message().to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_under_their_area_with_what_to_do_next() {
        let finding = |area, verdict, text: &str, next: Option<&str>| Finding {
            area,
            verdict,
            text: text.to_owned(),
            next: next.map(str::to_owned),
        };
        let findings = [
            finding("clock", Verdict::Good, "all agree", None),
            finding("registry", Verdict::Bad, "etcd does not answer", Some("start it")),
            finding("registry", Verdict::Doubtful, "it is old", None),
        ];
        assert_eq!(
            lines(&findings),
            [
                "clock",
                "  ✓ all agree",
                "registry",
                "  × etcd does not answer",
                "      → start it",
                "  ! it is old",
            ]
        );
    }
}
