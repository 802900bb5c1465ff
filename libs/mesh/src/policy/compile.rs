//! From the message that people write to the policy that calls obey: everything that policy.proto says is checked here, and all
//! that is wrong is told at once, each by its field's path.
//!
//! What compiles can't fail later: nobody behind this looks at a message again.

mod calls;
mod fields;
mod routes;

pub(super) use fields::duration;
pub(super) use fields::quoted;

use super::Algorithm;
use super::Balancing;
use super::Concurrency;
use super::Connections;
use super::Health;
use super::Locality;
use super::Outliers;
use super::Policy;
use super::Subset;
use super::VersionMatch;
use fields::Fields;
use fields::Violations;
use proto::mesh::v1 as message;
use proto::mesh::v1::ServicePolicy;
use proto::mesh::v1::balancing::Algorithm as AlgorithmMessage;
use proto::mesh::v1::locality::Mode;
use rpc::Violation;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How many named subsets, zones and so on a policy may have: what every process holds and every call walks is bounded.
const SUBSETS_MAX: usize = 16;
const FAILOVER_ZONES_MAX: usize = 16;
/// The longest zone or version, in bytes.
const TEXT_BYTES_MAX: usize = 128;

const WARM_UP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(15);
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
const EJECTION_BASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
const EJECTION_MAX: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const AGE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

impl Policy {
    /// The policy that a message describes, as its service's change number `revision`.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field: at least one violation, at most 100.
    pub fn compile(policy: &ServicePolicy, revision: i64) -> Result<Self, Vec<Violation>> {
        let violations = Violations::default();
        let fields = Fields::new(&violations, &policy.service);
        fields.service("service", &policy.service);
        let default = Self::default_of(&policy.service);
        let subsets = subsets(&fields, policy);
        let compiled = Self {
            revision,
            balancing: balancing(&fields.at("balancing"), policy.balancing.as_ref(), &default),
            health: health(&fields.at("health"), policy.health.as_ref(), &default),
            connections: connections(
                &fields.at("connections"),
                policy.connections.as_ref(),
                &default,
            ),
            routes: routes::routes(&fields, &policy.routes, &subsets),
            subsets,
            authorizations: calls::authorizations(&fields, &policy.authorizations),
            rate_limits: calls::rate_limits(&fields, &policy.rate_limits),
            concurrency: concurrency(
                &fields.at("concurrency"),
                policy.concurrency.as_ref(),
                &default,
            ),
            ..default
        };
        let violations = violations.into_inner();
        if violations.is_empty() { Ok(compiled) } else { Err(violations) }
    }
}

fn balancing(fields: &Fields, said: Option<&message::Balancing>, default: &Policy) -> Balancing {
    let default = default.balancing.clone();
    let Some(said) = said else { return default };
    let algorithm = match AlgorithmMessage::try_from(said.algorithm) {
        Ok(AlgorithmMessage::Unspecified | AlgorithmMessage::PeakEwma) => Algorithm::PeakEwma,
        Ok(AlgorithmMessage::LeastRequest) => Algorithm::LeastRequest,
        Ok(AlgorithmMessage::RoundRobin) => Algorithm::RoundRobin,
        Ok(AlgorithmMessage::RingHash) => match fields.header("hash_header", &said.hash_header) {
            Some(header) => Algorithm::RingHash { header },
            None => default.algorithm,
        },
        Err(_) => {
            let known = "PEAK_EWMA, LEAST_REQUEST, ROUND_ROBIN or RING_HASH";
            fields.wrong("algorithm", format!("must be {known}, is {}", said.algorithm));
            default.algorithm
        }
    };
    if !said.hash_header.is_empty() && said.algorithm != AlgorithmMessage::RingHash as i32 {
        fields.wrong("hash_header", "is only for the algorithm RING_HASH");
    }
    let warm_up = fields.duration("warm_up", said.warm_up.as_ref(), WARM_UP);
    let locality = match &said.locality {
        Some(said) => locality(&fields.at("locality"), said, default.locality),
        None => default.locality,
    };
    let aperture = said.aperture.as_ref().map_or(0, |aperture| aperture.instances_min);
    let instances_min = fields.at("aperture").number("instances_min", aperture, 2..=1_000, 0);
    Balancing {
        algorithm,
        warm_up: warm_up.unwrap_or(default.warm_up),
        locality,
        aperture_instances_min: (instances_min > 0).then_some(index(instances_min)),
    }
}

fn locality(
    fields: &Fields,
    said: &message::Locality,
    default: Option<Locality>,
) -> Option<Locality> {
    let percent_default = default.map_or(0, |locality| locality.healthy_percent_min);
    let percent = said.healthy_percent_min;
    let percent = fields.number("healthy_percent_min", percent, 1..=100, percent_default);
    if fields.holds("failover_zones", &said.failover_zones, FAILOVER_ZONES_MAX) {
        let mut seen = BTreeSet::new();
        for (index, zone) in said.failover_zones.iter().enumerate() {
            let fields = fields.item("failover_zones", index);
            fields.text("", zone, TEXT_BYTES_MAX);
            if !seen.insert(zone) {
                fields.wrong("", format!("is there twice: {}", quoted(zone)));
            }
        }
    }
    match Mode::try_from(said.mode) {
        Ok(Mode::Unspecified | Mode::ZoneFirst) => {}
        Ok(Mode::Any) => {
            if !said.failover_zones.is_empty() {
                fields.wrong("failover_zones", "are only for the mode ZONE_FIRST");
            }
            if said.healthy_percent_min != 0 {
                fields.wrong("healthy_percent_min", "is only for the mode ZONE_FIRST");
            }
            return None;
        }
        Err(_) => fields.wrong("mode", format!("must be ZONE_FIRST or ANY, is {}", said.mode)),
    }
    let failover_zones = said.failover_zones.clone();
    Some(Locality { healthy_percent_min: percent, failover_zones })
}

fn health(fields: &Fields, said: Option<&message::Health>, default: &Policy) -> Health {
    let default = default.health.clone();
    let Some(said) = said else { return default };
    let percent = |field, said, default| {
        fields.number_or_none(field, said, 100, Some(default)).unwrap_or_default()
    };
    Health {
        consecutive_failures: fields.number_or_none(
            "consecutive_failures",
            said.consecutive_failures,
            100,
            default.consecutive_failures,
        ),
        success_percent_min: fields.number_or_none(
            "success_percent_min",
            said.success_percent_min,
            100,
            default.success_percent_min,
        ),
        success_calls_min: fields.number(
            "success_calls_min",
            said.success_calls_min,
            1..=1_000_000,
            default.success_calls_min,
        ),
        backoff: fields.durations(
            ("backoff_min", "backoff_max"),
            (said.backoff_min.as_ref(), said.backoff_max.as_ref()),
            &BACKOFF,
            default.backoff,
        ),
        outliers: match (&said.outliers, default.outliers) {
            (Some(said), Some(default)) => outliers(&fields.at("outliers"), said, default),
            (_, default) => default,
        },
        ejected_percent_max: percent(
            "ejected_percent_max",
            said.ejected_percent_max,
            default.ejected_percent_max,
        ),
        panic_percent: percent("panic_percent", said.panic_percent, default.panic_percent),
    }
}

fn outliers(
    fields: &Fields,
    said: &message::OutlierDetection,
    default: Outliers,
) -> Option<Outliers> {
    let interval = fields.duration("interval", said.interval.as_ref(), INTERVAL);
    let base = fields.duration("ejection_base", said.ejection_base.as_ref(), EJECTION_BASE);
    let max = fields.duration("ejection_max", said.ejection_max.as_ref(), EJECTION_MAX);
    let factor = said.success_rate_stdev_factor;
    let compared = Outliers {
        interval: interval.unwrap_or(default.interval),
        ejection_base: base.unwrap_or(default.ejection_base),
        ejection_max: max.unwrap_or(default.ejection_max),
        success_rate_stdev_factor: fields.number(
            "success_rate_stdev_factor",
            factor,
            100..=10_000,
            default.success_rate_stdev_factor,
        ),
        instances_min: match said.instances_min {
            0 => default.instances_min,
            said => index(fields.number("instances_min", said, 2..=1_000, 0)),
        },
        volume_min: fields.number("volume_min", said.volume_min, 1..=1_000_000, default.volume_min),
        failure_percent: fields.number_or_none(
            "failure_percent",
            Some(said.failure_percent),
            100,
            None,
        ),
    };
    if compared.ejection_base > compared.ejection_max {
        fields.wrong("ejection_base", "must be at most `ejection_max`");
    }
    (!said.disabled).then_some(compared)
}

fn connections(
    fields: &Fields,
    said: Option<&message::Connections>,
    default: &Policy,
) -> Connections {
    let default = default.connections.clone();
    let Some(said) = said else { return default };
    let age_max = match &said.age_max {
        None => default.age_max,
        Some(age) if age.seconds == 0 && age.nanos == 0 => None,
        age => fields.duration("age_max", age.as_ref(), AGE),
    };
    let per_instance_max = match said.per_instance_max {
        0 => default.per_instance_max,
        said => index(fields.number("per_instance_max", said, 1..=64, 0)),
    };
    Connections { per_instance_max, age_max }
}

fn subsets(fields: &Fields, policy: &ServicePolicy) -> Vec<Subset> {
    let mut names = BTreeSet::new();
    if !fields.holds("subsets", &policy.subsets, SUBSETS_MAX) {
        return Vec::new();
    }
    let subsets = policy.subsets.iter().enumerate().map(|(index, said)| {
        let fields = fields.item("subsets", index);
        fields.label(&said.name, &mut names);
        if !said.zone.is_empty() {
            fields.text("zone", &said.zone, TEXT_BYTES_MAX);
        }
        if !said.service.is_empty() {
            fields.service("service", &said.service);
        }
        // Its own service is what a subset has without saying so.
        let other = Some(&said.service).filter(|it| !it.is_empty() && **it != policy.service);
        Subset {
            name: said.name.clone(),
            version: version(&fields, &said.version),
            zone: Some(&said.zone).filter(|zone| !zone.is_empty()).cloned(),
            service: other.cloned(),
        }
    });
    subsets.collect()
}

fn version(fields: &Fields, said: &str) -> Option<VersionMatch> {
    if said.is_empty() {
        return None;
    }
    fields.text("version", said, TEXT_BYTES_MAX);
    let (stem, is_prefix) = match said.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (said, false),
    };
    if stem.is_empty() || stem.contains('*') {
        let allowed = "a version, or what versions begin with and then `*`, such as `2.*`";
        fields.wrong("version", format!("must be {allowed}; is {}", quoted(said)));
    }
    let stem = stem.to_owned();
    Some(if is_prefix { VersionMatch::Prefix(stem) } else { VersionMatch::Exact(stem) })
}

fn concurrency(
    fields: &Fields,
    said: Option<&message::Concurrency>,
    default: &Policy,
) -> Concurrency {
    let default = default.concurrency.clone();
    let Some(said) = said else { return default };
    let calls_max = match said.calls_max {
        0 => default.calls_max,
        said => index(fields.number("calls_max", said, 1..=100_000, 0)),
    };
    let calls_min = match said.calls_min {
        // A limit below the usual least one is that least one.
        0 => default.calls_min.min(calls_max),
        said => index(said),
    };
    if calls_min > calls_max {
        let allowed = format!("1 to `calls_max`, which is {calls_max}");
        fields.wrong("calls_min", format!("must be {allowed}; is {calls_min}"));
    }
    Concurrency { calls_max, adaptive: !said.adaptive_disabled, calls_min }
}

/// A number of things in memory.
fn index(number: u32) -> usize {
    usize::try_from(number).expect("a usize has at least 32 bits here")
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
