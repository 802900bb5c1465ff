//! `linkmesh mesh`: who runs, and where.

use clap::Subcommand;
use jiff::Timestamp;
use proto::mesh::v1::Endpoint;
use serde_json::json;

use crate::operator::Operator;
use crate::operator::Place;
use crate::print;

/// Commands about the mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every instance with its address, zone, version and age
    ///
    /// Asks one running process, not etcd: what is shown is what that process would call. STATE is `ready`, `draining`
    /// (it said that it leaves), or `suspect` (its lease ran out, and it still answers).
    #[command(after_long_help = "\
Examples:
  linkmesh mesh endpoints
  linkmesh mesh endpoints --service links --json
  linkmesh mesh endpoints --address links=10.0.3.7:7002 --authority /etc/linkmesh-authority")]
    Endpoints {
        /// Only instances of this service, such as `links`
        #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
        service: String,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Asks and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Endpoints { service, json, place } = command;
    let answer = Operator::find(&place)?.endpoints(&service).await?;
    if json {
        let endpoints: Vec<_> = answer.endpoints.iter().map(as_json).collect();
        let age = answer.age.and_then(|age| age.try_into().ok()).map(seconds);
        let revision = answer.revision;
        return print::json(&json!({
            "endpoints": endpoints, "revision": revision, "registryAgeSeconds": age,
        }));
    }
    let now = Timestamp::now();
    let heading =
        ["SERVICE", "INSTANCE", "ADDRESS", "ZONE", "VERSION", "AGE", "STATE", "PENDING", "LATENCY"];
    let rows: Vec<_> = answer.endpoints.iter().map(|endpoint| row(endpoint, now)).collect();
    print::table(&heading, &rows)
}

fn row(endpoint: &Endpoint, now: Timestamp) -> Vec<String> {
    let latency = endpoint.latency.and_then(|latency| latency.try_into().ok());
    vec![
        endpoint.service.clone(),
        endpoint.instance.clone(),
        endpoint.address.clone(),
        endpoint.zone.clone(),
        endpoint.version.clone(),
        registered(endpoint)
            .map_or_else(|| "-".to_owned(), |time| age(now.as_second() - time.as_second())),
        state(endpoint).to_owned(),
        endpoint.pending.to_string(),
        latency
            .map_or_else(|| "-".to_owned(), |latency| format!("{:.1} ms", seconds(latency) * 1e3)),
    ]
}

fn as_json(endpoint: &Endpoint) -> serde_json::Value {
    let latency = endpoint.latency.and_then(|latency| latency.try_into().ok()).map(seconds);
    json!({
        "service": endpoint.service,
        "instance": endpoint.instance,
        "address": endpoint.address,
        "zone": endpoint.zone,
        "region": endpoint.region,
        "version": endpoint.version,
        "registerTime": registered(endpoint).map(|time| time.to_string()),
        "weight": endpoint.weight,
        "state": state(endpoint),
        "pending": endpoint.pending,
        "latencySeconds": latency,
        "grpcServices": endpoint.grpc_services,
    })
}

fn registered(endpoint: &Endpoint) -> Option<Timestamp> {
    rpc::time::from_proto("register_time", &endpoint.register_time?).ok()
}

fn state(endpoint: &Endpoint) -> &'static str {
    match (endpoint.draining, endpoint.suspect) {
        (true, _) => "draining",
        (false, true) => "suspect",
        (false, false) => "ready",
    }
}

fn seconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64()
}

/// An age in its two largest units.
fn age(seconds: i64) -> String {
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
}
