//! What is done with calls, in words for people: the policy in force of each service, route by route.

use super::routes::Routes;
use crate::policy::Algorithm;
use crate::policy::CallMatch;
use crate::policy::Callers;
use crate::policy::MethodMatch;
use crate::policy::Policy;
use crate::policy::RoutePolicy;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is done with the calls to one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRoutesView {
    /// The service that is called.
    pub service: String,
    /// The revision of its policy; 0: there is none, and the defaults hold.
    pub revision: i64,
    /// How one of its instances is chosen.
    pub balancing: String,
    /// In the order in which they are tried; the last one takes what none before it does.
    pub routes: Vec<RouteView>,
}

/// What is done with the calls that a route takes.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// The calls that it takes: any of these; empty: all.
    pub matches: Vec<String>,
    /// How long a call may take; none: 10 s for unary calls, any time for streams.
    pub timeout: Option<Duration>,
    /// How often a call is sent at most.
    pub attempts_max: usize,
    /// What else is done.
    pub actions: Vec<String>,
    /// The calls that it took since the policy is in force.
    pub calls: u64,
    /// Those of them that failed by the callee's fault, streams that broke later not among them.
    pub failures: u64,
}

/// Of every service that has an instance.
pub(super) fn of(routes: &Routes) -> Vec<ServiceRoutesView> {
    // A policy is shared by all gRPC services of a service.
    let policies: BTreeMap<&str, &Policy> = routes
        .by_service
        .values()
        .map(|route| (route.policy.service.as_str(), &*route.policy))
        .collect();
    policies.into_values().map(service).collect()
}

fn service(policy: &Policy) -> ServiceRoutesView {
    let routes = policy.routes.iter().chain([&policy.route_default]);
    ServiceRoutesView {
        service: policy.service.clone(),
        revision: policy.revision,
        balancing: match &policy.balancing.algorithm {
            Algorithm::PeakEwma => "peak_ewma".to_owned(),
            Algorithm::LeastRequest => "least_request".to_owned(),
            Algorithm::RoundRobin => "round_robin".to_owned(),
            Algorithm::RingHash { header } => format!("ring_hash by {header}"),
        },
        routes: routes.map(|route| view(policy, route)).collect(),
    }
}

fn view(policy: &Policy, route: &RoutePolicy) -> RouteView {
    RouteView {
        name: route.name.clone(),
        matches: route.matches.iter().map(calls).collect(),
        timeout: route.timeout,
        attempts_max: route.retry.attempts_max,
        actions: actions(policy, route),
        calls: route.counts.calls(),
        failures: route.counts.failures(),
    }
}

fn calls(matching: &CallMatch) -> String {
    let method = match &matching.method {
        None => "any method".to_owned(),
        Some(MethodMatch::Path(path)) => path.trim_start_matches('/').to_owned(),
        Some(MethodMatch::Service(prefix)) => format!("{}*", prefix.trim_start_matches('/')),
    };
    let headers = matching.headers.iter().map(ToString::to_string);
    let callers = match &matching.callers {
        Callers::Any => None,
        Callers::Only(names) => {
            Some(format!("from {}", names.iter().cloned().collect::<Vec<_>>().join(", ")))
        }
    };
    [method].into_iter().chain(callers).chain(headers).collect::<Vec<_>>().join(", ")
}

fn actions(policy: &Policy, route: &RoutePolicy) -> Vec<String> {
    let subset =
        |index: usize| policy.subsets.get(index).map_or("?", |subset| subset.name.as_str());
    let mut actions = Vec::new();
    if let Some(timeout) = route.idle_timeout {
        actions.push(format!("idle {timeout:?}"));
    }
    if let Some(timeout) = route.retry.per_try_timeout {
        actions.push(format!("{timeout:?} per try"));
    }
    if let Some(hedge) = &route.hedge {
        let percentile = hedge.percentile.map_or_else(String::new, |p| format!(" or p{p}"));
        actions.push(format!("hedge after {:?}{percentile}", hedge.delay));
    }
    if !route.split.is_empty() {
        let shares = route.split.iter().map(|it| format!("{} {}", subset(it.subset), it.weight));
        actions.push(format!("split {}", shares.collect::<Vec<_>>().join(", ")));
    }
    if let Some(mirror) = &route.mirror {
        actions.push(format!("mirror {} % to {}", mirror.share * 100.0, subset(mirror.subset)));
    }
    if let Some(fault) = &route.fault {
        let delay = fault.delay.map(|(delay, share)| format!("{delay:?} for {} %", share * 100.0));
        let abort = fault.abort.map(|(code, share)| format!("{code:?} for {} %", share * 100.0));
        actions.extend(delay.map(|delay| format!("fault: delay {delay}")));
        actions.extend(abort.map(|abort| format!("fault: abort {abort}")));
    }
    if let Some(criticality) = route.criticality {
        actions.push(format!("criticality {criticality:?}").to_lowercase());
    }
    actions
}
