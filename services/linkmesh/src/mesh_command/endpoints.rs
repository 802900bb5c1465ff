//! `linkmesh mesh endpoints`: who runs, where, and how they fare.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::endpoint::State;
use serde_json::json;

use super::show;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Column;
use crate::print::Output;

const COLUMNS: [Column; 10] = [
    Column::Words("SERVICE"),
    Column::Words("INSTANCE"),
    Column::Words("ADDRESS"),
    Column::Words("ZONE"),
    Column::Words("VERSION"),
    Column::Numbers("AGE"),
    Column::Words("STATE"),
    Column::Numbers("CONNS"),
    Column::Numbers("LATENCY"),
    Column::Numbers("SUCCESS"),
];

/// List every instance with its address, zone, version, age and state
///
/// Asks one running process, not etcd: what is shown is what that process would call, and how its own calls fared. STATE is
/// `ready`, `idle` (nobody there called it of late), `connecting`, `warming` (new, with a share that grows), `unhealthy` (out of use
/// after failures), `ejected` (out of use because it fares worse than the others), `draining` (it said that it leaves), or
/// `suspect` (its lease ran out, and it still answers).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh endpoints
  linkmesh mesh endpoints --service links -o json
  linkmesh mesh endpoints --address links=10.0.3.7:7002 --authority /etc/linkmesh-authority")]
pub(crate) struct Arguments {
    /// Only instances of this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Asks and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { service, output, place } = arguments;
    let answer = Operator::find(&place)?.endpoints(&service).await?;
    if output.is_json() {
        let endpoints: Vec<_> = answer.endpoints.iter().map(as_json).collect();
        let age = seconds(answer.age);
        let revision = answer.revision;
        return print::json(&json!({
            "endpoints": endpoints, "revision": revision, "registryAgeSeconds": age,
        }));
    }
    let now = Timestamp::now();
    let rows: Vec<_> = answer.endpoints.iter().map(|endpoint| row(endpoint, now)).collect();
    print::aligned(&COLUMNS, &rows).iter().try_for_each(|line| print::line(line))
}

fn row(endpoint: &Endpoint, now: Timestamp) -> Vec<String> {
    let registered = registered(endpoint);
    let latency = endpoint.latency.and_then(|latency| latency.try_into().ok());
    vec![
        endpoint.service.clone(),
        endpoint.instance.clone(),
        endpoint.address.clone(),
        endpoint.zone.clone(),
        endpoint.version.clone(),
        registered.map_or_else(|| "-".to_owned(), |time| age(now.as_second() - time.as_second())),
        state(endpoint).to_owned(),
        endpoint.connections.to_string(),
        show::duration_or_dash(latency),
        show::percent(endpoint.success_rate),
    ]
}

fn as_json(endpoint: &Endpoint) -> serde_json::Value {
    json!({
        "service": endpoint.service,
        "instance": endpoint.instance,
        "address": endpoint.address,
        "zone": endpoint.zone,
        "region": endpoint.region,
        "version": endpoint.version,
        "registerTime": registered(endpoint).map(|time| time.to_string()),
        "weight": endpoint.weight,
        "effectiveWeight": endpoint.effective_weight,
        "state": state(endpoint),
        "outForSeconds": seconds(endpoint.out_for),
        "tier": endpoint.tier,
        "connections": endpoint.connections,
        "pending": endpoint.pending,
        "latencySeconds": seconds(endpoint.latency),
        "successRate": endpoint.success_rate,
        "grpcServices": endpoint.grpc_services,
    })
}

fn registered(endpoint: &Endpoint) -> Option<Timestamp> {
    rpc::time::from_proto("register_time", &endpoint.register_time?).ok()
}

/// The state in a word: what the registry says goes before what the asked process has seen.
pub(super) fn state(endpoint: &Endpoint) -> &'static str {
    if endpoint.draining {
        return "draining";
    }
    if endpoint.suspect {
        return "suspect";
    }
    match endpoint.state() {
        State::Unspecified | State::Ready => "ready",
        State::Idle => "idle",
        State::Connecting => "connecting",
        State::Warming => "warming",
        State::Unhealthy => "unhealthy",
        State::Ejected => "ejected",
        State::Draining => "draining",
    }
}

fn seconds(duration: Option<prost_types::Duration>) -> Option<f64> {
    Duration::try_from(duration?).ok().map(|duration| duration.as_secs_f64())
}

/// An age in its two largest units.
pub(super) fn age(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        ..0 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{minutes}m"),
        86_400.. => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_shown_in_its_two_largest_units() {
        let ages = [-3, 0, 59, 60, 3_725, 90_000].map(age);
        assert_eq!(ages, ["0s", "0s", "59s", "1m0s", "1h2m", "1d1h"]);
    }

    #[test]
    fn a_table_fits_a_terminal_of_a_hundred_columns() {
        let endpoint = Endpoint {
            service: "analytics".to_owned(),
            instance: "analytics-1".to_owned(),
            address: "127.0.0.1:54321".to_owned(),
            zone: "local-a".to_owned(),
            version: "0.1.0".to_owned(),
            register_time: Some(rpc::time::to_proto(Timestamp::UNIX_EPOCH)),
            state: State::Unhealthy.into(),
            connections: 1,
            latency: Some(prost_types::Duration { seconds: 0, nanos: 1_234_000 }),
            success_rate: Some(0.5),
            ..Endpoint::default()
        };
        let now = Timestamp::from_second(3_725).unwrap();
        let lines = print::aligned(&COLUMNS, &[row(&endpoint, now)]);
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        assert!(lines[1].contains("1h2m  unhealthy      1  1.23 ms  50.00 %"), "{lines:#?}");
    }
}
