//! `linkmesh mesh routes`: what is done with calls, by the policy that each process has in force.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use proto::mesh::v1::ListRoutesRequest;
use proto::mesh::v1::RouteInForce;
use proto::mesh::v1::ServiceRoutes;
use serde_json::json;

use super::fleet;
use super::fleet::Fleet;
use super::show;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Column;
use crate::print::Output;

const COLUMNS: [Column; 9] = [
    Column::Words("SERVICE"),
    Column::Numbers("REV"),
    Column::Words("ROUTE"),
    Column::Words("CALLS TO"),
    Column::Numbers("TIMEOUT"),
    Column::Numbers("TRIES"),
    Column::Numbers("CALLS"),
    Column::Numbers("FAILED"),
    Column::Words("BESIDES"),
];

/// Show which policy is in force for each service, route by route, with how many calls each route took
///
/// Asks every instance what it does with the calls that it makes. REV is the policy's revision, 0 for the defaults; a service that
/// is shown with two revisions has a policy that has not reached every process (see `linkmesh mesh check`). CALLS and FAILED count
/// since the instances started.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh routes
  linkmesh mesh routes --service links -o json")]
pub(crate) struct Arguments {
    /// Only calls to this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// One policy of one service, as all instances that have it in force know it.
type Merged = BTreeMap<(String, i64), ServiceRoutes>;

/// Asks and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { service, output, place } = arguments;
    let fleet = Fleet::find(&Operator::find(&place)?, "").await?;
    let ask = |service: String| fleet::question(ListRoutesRequest { service });
    let answers = fleet
        .ask(|mut client| {
            let question = ask(service.clone());
            async move { client.list_routes(question).await }
        })
        .await;
    let answered = fleet::answered(answers)?;
    fleet.close().await;
    let merged = merge(answered.into_iter().flat_map(|response| response.services));
    if output.is_json() {
        let services: Vec<_> = merged.values().map(as_json).collect();
        return print::json(&json!({ "services": services }));
    }
    let rows: Vec<_> = merged.values().flat_map(rows).collect();
    print::aligned(&COLUMNS, &rows).iter().try_for_each(|line| print::line(line))
}

/// Adds up what the instances counted under the same policy.
fn merge(services: impl Iterator<Item = ServiceRoutes>) -> Merged {
    let mut merged = Merged::new();
    for service in services {
        let key = (service.service.clone(), service.revision);
        let Some(before) = merged.get_mut(&key) else {
            merged.insert(key, service);
            continue;
        };
        for route in service.routes {
            match before.routes.iter_mut().find(|it| it.name == route.name) {
                Some(same) => {
                    same.calls += route.calls;
                    same.failures += route.failures;
                }
                None => before.routes.push(route),
            }
        }
    }
    merged
}

fn rows(service: &ServiceRoutes) -> Vec<Vec<String>> {
    let row = |route: &RouteInForce| {
        let timeout = timeout(route);
        vec![
            service.service.clone(),
            service.revision.to_string(),
            route.name.clone(),
            match route.matches.is_empty() {
                true => "*".to_owned(),
                false => {
                    route.matches.iter().map(|it| show::short(it)).collect::<Vec<_>>().join(" | ")
                }
            },
            timeout.map_or_else(|| "default".to_owned(), show::duration),
            route.attempts_max.to_string(),
            route.calls.to_string(),
            route.failures.to_string(),
            route.actions.join("; "),
        ]
    };
    service.routes.iter().map(row).collect()
}

fn timeout(route: &RouteInForce) -> Option<Duration> {
    Duration::try_from(route.timeout?).ok()
}

fn as_json(service: &ServiceRoutes) -> serde_json::Value {
    let route = |route: &RouteInForce| {
        json!({
            "name": route.name,
            "matches": route.matches,
            "timeoutSeconds": timeout(route).map(|timeout| timeout.as_secs_f64()),
            "attemptsMax": route.attempts_max,
            "actions": route.actions,
            "calls": route.calls,
            "failures": route.failures,
        })
    };
    json!({
        "service": service.service,
        "revision": service.revision,
        "balancing": service.balancing,
        "routes": service.routes.iter().map(route).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(revision: i64, calls: u64) -> ServiceRoutes {
        let route = RouteInForce {
            name: "default".to_owned(),
            attempts_max: 5,
            calls,
            failures: 1,
            ..RouteInForce::default()
        };
        ServiceRoutes {
            service: "links".to_owned(),
            revision,
            balancing: "peak_ewma".to_owned(),
            routes: vec![route],
        }
    }

    #[test]
    fn instances_under_the_same_policy_are_added_up_and_another_revision_is_seen() {
        let merged = merge([of(2, 10), of(2, 5), of(1, 7)].into_iter());
        let lines: Vec<_> = merged.values().flat_map(rows).map(|row| row.join(" ")).collect();
        assert_eq!(
            lines,
            ["links 1 default * default 5 7 1 ", "links 2 default * default 5 15 2 "]
        );
    }
}
