//! `linkmesh mesh edges`: who calls whom, proved by which identity.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use proto::mesh::v1::Stats;
use serde_json::json;

use super::fleet::Fleet;
use super::sample::Calls;
use super::sample::End;
use super::sample::Sample;
use super::show;
use super::stat;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Column;
use crate::print::Output;

const COLUMNS: [Column; 7] = [
    Column::Words("CALLER"),
    Column::Words("CALLEE"),
    Column::Words("IDENTITY"),
    Column::Numbers("RPS"),
    Column::Numbers("SUCCESS"),
    Column::Numbers("P99"),
    Column::Words("CODES"),
];
/// Whom a caller calls that found nobody to call.
const NOBODY: &str = "none";

/// Show who calls whom, with the identity that the caller proved, calls a second and success
///
/// An edge is counted by the callee's instances; calls that found no instance are counted by their callers and shown with the
/// callee `none`. IDENTITY is what the caller's certificate named in the mutual TLS handshake; `-` if nothing was proved.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh edges
  linkmesh mesh edges --total            since the instances started
  linkmesh mesh edges --window 1m -o json")]
pub(crate) struct Arguments {
    /// How long to count
    #[arg(long, value_name = "DURATION", default_value = stat::WINDOW_DEFAULT, value_parser = stat::window)]
    window: Duration,
    /// Count since the instances started instead of over a window
    #[arg(long, conflicts_with = "window")]
    total: bool,
    /// Also the calls of these commands themselves
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    caller: String,
    callee: String,
    /// None if nothing was proved.
    identity: Option<String>,
}

/// Counts and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let fleet = Fleet::find(&Operator::find(&arguments.place)?, "").await?;
    let mut before = Vec::new();
    if !arguments.total {
        before = stat::look(&fleet).await?;
        tokio::time::sleep(arguments.window).await;
    }
    let after = stat::look(&fleet).await?;
    fleet.close().await;
    let edges = edges(&before, &after, arguments.all);
    if arguments.output.is_json() {
        return print::json(&json!({ "edges": edges.iter().map(as_json).collect::<Vec<_>>() }));
    }
    if edges.is_empty() {
        return print::line("no calls: a longer --window, or --total, may show some");
    }
    let rows: Vec<_> = edges.iter().map(row).collect();
    print::aligned(&COLUMNS, &rows).iter().try_for_each(|line| print::line(line))
}

fn edges(before: &[Stats], after: &[Stats], all: bool) -> BTreeMap<Edge, Sample> {
    let secured: BTreeSet<&str> = after
        .iter()
        .filter(|stats| !stats.spiffe_id.is_empty())
        .map(|stats| stats.service.as_str())
        .collect();
    let wanted = |calls: &Calls| all || !show::is_own(&calls.method);
    let mut edges = Sample::between(before, after, End::Callee, |calls| {
        let proved = secured.contains(calls.callee.as_str());
        wanted(calls).then(|| Edge {
            caller: calls.caller.clone(),
            callee: calls.callee.clone(),
            identity: proved.then(|| spiffe_id(&calls.caller)).flatten(),
        })
    });
    edges.extend(Sample::between(before, after, End::Caller, |calls| {
        (wanted(calls) && calls.callee == NOBODY).then(|| Edge {
            caller: calls.caller.clone(),
            callee: NOBODY.to_owned(),
            identity: None,
        })
    }));
    edges
}

/// What a caller's certificate named, of which its name in the metrics was made.
fn spiffe_id(caller: &str) -> Option<String> {
    let domain = mesh::identity::TRUST_DOMAIN;
    match caller {
        mesh::identity::ANONYMOUS => None,
        mesh::identity::OPERATOR => Some(format!("spiffe://{domain}/operator")),
        _ if caller.contains('/') => Some(format!("spiffe://{domain}/{caller}")),
        _ => Some(format!("spiffe://{domain}/service/{caller}")),
    }
}

fn row((edge, sample): (&Edge, &Sample)) -> Vec<String> {
    vec![
        edge.caller.clone(),
        edge.callee.clone(),
        edge.identity.clone().unwrap_or_else(|| "-".to_owned()),
        show::rate(sample.rps),
        show::percent(sample.success_rate()),
        show::duration_or_dash(sample.percentile(99.0)),
        sample.other_codes(),
    ]
}

fn as_json((edge, sample): (&Edge, &Sample)) -> serde_json::Value {
    let mut row = show::golden_json(sample);
    row["caller"] = json!(edge.caller);
    row["callee"] = json!(edge.callee);
    row["identity"] = json!(edge.identity);
    row
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::calls;
    use super::super::sample::tests::stats;
    use super::*;

    #[test]
    fn an_edge_is_proved_by_an_identity_and_shows_what_was_refused() {
        let get = "linkmesh.links.v1.LinksService/GetLink";
        let own = "linkmesh.mesh.v1.MeshService/GetStats";
        let mut links = stats(
            "links-1",
            10,
            vec![
                calls("edge", get, &[(0, 100)], &[(400, 410, 100)]),
                calls("analytics", get, &[(7, 3)], &[(50, 55, 3)]),
                calls("operator", own, &[(0, 1)], &[(50, 55, 1)]),
            ],
        );
        let mut lost = calls("links", "other", &[(14, 2)], &[(50, 55, 2)]);
        lost.callee = NOBODY.to_owned();
        links.outbound = vec![lost];
        let edges = edges(&[], &[links], false);
        let rows: Vec<_> = edges.iter().map(|edge| row(edge).join(" ")).collect();
        assert_eq!(
            rows,
            [
                "analytics links spiffe://linkmesh/service/analytics 0.3 100 % 55.0 µs PERMISSION_DENIED 3",
                "edge links spiffe://linkmesh/service/edge 10.0 100 % 410 µs ",
                "links none - 0.2 0.00 % 55.0 µs UNAVAILABLE 2",
            ]
        );
    }

    #[test]
    fn without_tls_nothing_is_proved() {
        let get = "linkmesh.links.v1.LinksService/GetLink";
        let mut links = stats("links-1", 10, vec![calls("edge", get, &[(0, 1)], &[])]);
        links.spiffe_id = String::new();
        let edges = edges(&[], &[links], false);
        assert!(edges.keys().all(|edge| edge.identity.is_none()));
    }
}
