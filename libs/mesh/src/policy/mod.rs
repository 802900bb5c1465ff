//! How a service is called and who may call it: `ServicePolicy` of `proto/linkmesh/mesh/v1/policy.proto`, parsed into types that
//! cannot be wrong. What a policy leaves out has its default here already, so nobody who reads one asks again.
//!
//! A [`Policy`] is immutable and shared; a new one replaces it as a whole.

mod cell;
mod compile;
mod counts;
mod matching;
mod metrics;
mod policies;
mod record;
mod set;
mod yaml;

pub use cell::PolicyCell;
pub use policies::Authorship;
pub use policies::Policies;
pub use policies::StoredPolicy;
pub use record::PolicyRecord;
pub use set::PolicySet;
pub use set::Refusal;
pub use yaml::Document;
pub use yaml::Problem;
pub use yaml::ReadError;
pub use yaml::read_all_yaml;
pub use yaml::read_yaml;
pub use yaml::write_json;
pub use yaml::write_yaml;

pub(crate) use counts::RouteCounts;
pub(crate) use matching::CallMatch;
pub(crate) use metrics::PolicyMetrics;
pub(crate) use set::KeptPolicy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// The policy of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(crate) service: String,
    /// Counts the changes of the service's policy; 0: the defaults, which nobody stored.
    pub(crate) revision: i64,
    pub(crate) balancing: Balancing,
    pub(crate) health: Health,
    pub(crate) connections: Connections,
    pub(crate) subsets: Vec<Subset>,
    /// In order; the first that matches decides.
    pub(crate) routes: Vec<Arc<RoutePolicy>>,
    /// For calls that no route matches.
    pub(crate) route_default: Arc<RoutePolicy>,
    pub(crate) authorizations: Vec<Authorization>,
    pub(crate) rate_limits: Vec<RateLimit>,
    pub(crate) concurrency: Concurrency,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Balancing {
    pub(crate) algorithm: Algorithm,
    pub(crate) warm_up: Duration,
    /// None: zones do not count.
    pub(crate) locality: Option<Locality>,
    /// None: all instances are used.
    pub(crate) aperture_instances_min: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Algorithm {
    PeakEwma,
    LeastRequest,
    RoundRobin,
    RingHash { header: http::HeaderName },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locality {
    pub(crate) healthy_percent_min: u32,
    pub(crate) failover_zones: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// None: never for this reason.
    pub(crate) consecutive_failures: Option<u32>,
    /// None: never for this reason.
    pub(crate) success_percent_min: Option<u32>,
    pub(crate) success_calls_min: u32,
    pub(crate) backoff: (Duration, Duration),
    /// None: instances are not compared.
    pub(crate) outliers: Option<Outliers>,
    pub(crate) ejected_percent_max: u32,
    pub(crate) panic_percent: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outliers {
    pub(crate) interval: Duration,
    pub(crate) ejection_base: Duration,
    pub(crate) ejection_max: Duration,
    pub(crate) success_rate_stdev_factor: u32,
    pub(crate) instances_min: usize,
    pub(crate) volume_min: u32,
    /// None: failures alone are not compared.
    pub(crate) failure_percent: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) per_instance_max: usize,
    /// None: any age.
    pub(crate) age_max: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subset {
    pub(crate) name: String,
    pub(crate) version: Option<VersionMatch>,
    pub(crate) zone: Option<String>,
    pub(crate) service: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact(String),
    Prefix(String),
}

/// What is done with the calls that match.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RoutePolicy {
    /// `default` for the calls that no route matches.
    pub(crate) name: String,
    /// Any of them; empty: every call.
    pub(crate) matches: Vec<CallMatch>,
    /// None: 10 s for unary calls, nothing for streams.
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) hedge: Option<Hedge>,
    /// Empty: all instances alike.
    pub(crate) split: Vec<Share>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) fault: Option<Fault>,
    /// None: as the caller says.
    pub(crate) criticality: Option<Criticality>,
    pub(crate) counts: RouteCounts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) attempts_max: usize,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) codes: Vec<Code>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hedge {
    pub(crate) delay: Duration,
    /// 50 to 99.9; none: the delay alone decides.
    pub(crate) percentile: Option<f64>,
    pub(crate) attempts_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its place among the policy's subsets.
    pub(crate) subset: usize,
    pub(crate) weight: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mirror {
    /// Its place among the policy's subsets.
    pub(crate) subset: usize,
    /// 0 to 1.
    pub(crate) share: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// How long, and for which share of the calls, 0 to 1.
    pub(crate) delay: Option<(Duration, f64)>,
    /// With which code, and for which share of the calls, 0 to 1.
    pub(crate) abort: Option<(Code, f64)>,
    /// None: any number.
    pub(crate) active_max: Option<u32>,
    pub(crate) by_header: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authorization {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) methods: Vec<MethodMatch>,
    pub(crate) callers: Callers,
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MethodMatch {
    /// `/linkmesh.links.v1.LinksService/GetLink`, as a request's path says it.
    Path(String),
    /// `/linkmesh.links.v1.LinksService/`, for all of it.
    Service(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callers {
    Any,
    Only(BTreeSet<String>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateLimit {
    pub(crate) name: String,
    pub(crate) matching: CallMatch,
    pub(crate) calls: u32,
    pub(crate) per: Duration,
    pub(crate) burst: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Concurrency {
    pub(crate) calls_max: usize,
    pub(crate) adaptive: bool,
    pub(crate) calls_min: usize,
}

/// How much a call matters when there are more than can be done; the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Criticality {
    Sheddable,
    Normal,
    Critical,
}

impl Policy {
    /// The defaults, as they are for a service without a policy.
    pub(crate) fn default_of(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            revision: 0,
            balancing: Balancing {
                algorithm: Algorithm::PeakEwma,
                warm_up: Duration::from_secs(10),
                locality: Some(Locality { healthy_percent_min: 70, failover_zones: Vec::new() }),
                aperture_instances_min: None,
            },
            health: Health {
                consecutive_failures: Some(7),
                success_percent_min: Some(80),
                success_calls_min: 5,
                backoff: (Duration::from_secs(1), Duration::from_secs(60)),
                outliers: Some(Outliers {
                    interval: Duration::from_secs(10),
                    ejection_base: Duration::from_secs(30),
                    ejection_max: Duration::from_secs(300),
                    success_rate_stdev_factor: 1_900,
                    instances_min: 5,
                    volume_min: 100,
                    failure_percent: None,
                }),
                ejected_percent_max: 10,
                panic_percent: 50,
            },
            connections: Connections {
                per_instance_max: 8,
                age_max: Some(Duration::from_secs(1_800)),
            },
            subsets: Vec::new(),
            routes: Vec::new(),
            route_default: Arc::new(RoutePolicy::default()),
            authorizations: Vec::new(),
            rate_limits: Vec::new(),
            concurrency: Concurrency { calls_max: 1_024, adaptive: true, calls_min: 16 },
        }
    }

    /// What is done with a call; its path is `/service/method`.
    pub(crate) fn route(
        &self,
        path: &str,
        headers: &http::HeaderMap,
        caller: &str,
    ) -> &Arc<RoutePolicy> {
        let matching = |route: &&Arc<RoutePolicy>| {
            let matches = &route.matches;
            matches.is_empty() || matches.iter().any(|it| it.matches(path, headers, caller))
        };
        self.routes.iter().find(matching).unwrap_or(&self.route_default)
    }
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            matches: Vec::new(),
            timeout: None,
            idle_timeout: None,
            retry: Retry {
                attempts_max: 5,
                per_try_timeout: None,
                backoff: (Duration::from_millis(25), Duration::from_millis(250)),
                codes: vec![Code::Unavailable],
            },
            hedge: None,
            split: Vec::new(),
            mirror: None,
            fault: None,
            criticality: None,
            counts: RouteCounts::default(),
        }
    }
}

impl Callers {
    pub(crate) fn contain(&self, caller: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(caller),
        }
    }
}

impl MethodMatch {
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Path(wanted) => path == wanted,
            Self::Service(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}
