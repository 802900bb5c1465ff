//! Golden metrics: calls by caller, callee, method and code, how long they took, and what happened to them on the way.
//!
//! What a call touches are atomics that were looked up before; labels are bounded by the number of services and of methods
//! in `proto/`. A series, once there, stays. Whoever adds a layer adds what it counts as an [`Event`].

mod event;
mod histogram;
mod pair;

pub use histogram::Latency;
pub use histogram::LatencyBucket;
pub use pair::CallStats;

pub(crate) use event::Event;
pub(crate) use event::Incident;
pub(crate) use pair::PairMetrics;

use histogram::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    caller: String,
    callee: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    caller: String,
    callee: String,
    method: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PairLabels {
    caller: String,
    callee: String,
}

/// Which end of the calls counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Outbound,
    Inbound,
}

/// The families of one direction. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics {
    families: Families,
    pairs: Arc<Mutex<Pairs>>,
}

/// By caller and callee; there are few, and each is looked up once for a connection or an endpoint.
type Pairs = BTreeMap<(String, String), Arc<PairMetrics>>;

#[derive(Debug, Clone)]
struct Families {
    requests: Family<CodeLabels, Counter>,
    durations: Family<MethodLabels, Histogram>,
    /// In the order of [`Event::ALL`]; those of the other direction stay empty and are not shown.
    events: [Family<MethodLabels, Counter>; Event::ALL.len()],
    /// In the order of [`Incident::ALL`]; outbound alone.
    incidents: [Family<PairLabels, Counter>; Incident::ALL.len()],
}

impl CallMetrics {
    /// Those of the calls that a process makes.
    pub(crate) fn outbound(registry: &mut Registry) -> Self {
        let metrics = Self::new(registry, Direction::Outbound);
        let Families { requests, durations, .. } = metrics.families.clone();
        registry.register(
            "mesh_requests",
            "Calls made, by the code that the caller was given",
            requests,
        );
        registry.register(
            "mesh_request_duration_seconds",
            "How long calls made took, retries included",
            durations,
        );
        for (incident, family) in Incident::ALL.into_iter().zip(&metrics.families.incidents) {
            registry.register(incident.metric(), incident.help(), family.clone());
        }
        metrics
    }

    /// Those of the calls that a process answers.
    pub(crate) fn inbound(registry: &mut Registry) -> Self {
        let metrics = Self::new(registry, Direction::Inbound);
        let Families { requests, durations, .. } = metrics.families.clone();
        registry.register("mesh_server_requests", "Calls answered, by code", requests);
        registry.register(
            "mesh_server_request_duration_seconds",
            "How long calls answered took",
            durations,
        );
        metrics
    }

    fn new(registry: &mut Registry, direction: Direction) -> Self {
        let families = Families {
            requests: Family::default(),
            durations: Family::default(),
            events: std::array::from_fn(|_| Family::default()),
            incidents: std::array::from_fn(|_| Family::default()),
        };
        for (event, family) in Event::ALL.into_iter().zip(&families.events) {
            if event.direction() == direction {
                registry.register(event.metric(), event.help(), family.clone());
            }
        }
        Self { families, pairs: Arc::default() }
    }

    /// Those between one caller and one callee, the same for whoever asks again.
    pub(crate) fn between(&self, caller: &str, callee: &str) -> Arc<PairMetrics> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = pairs
            .entry((caller.to_owned(), callee.to_owned()))
            .or_insert_with(|| Arc::new(PairMetrics::new(self.families.clone(), caller, callee)));
        Arc::clone(pair)
    }

    /// What was counted until now, by caller, callee and method; what was never called is left out.
    pub(crate) fn stats(&self) -> Vec<CallStats> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<_> = pairs.values().cloned().collect();
        pairs.iter().flat_map(|pair| pair.stats()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::METHODS;
    use prometheus_client::encoding::text::encode;
    use std::time::Duration;
    use tonic::Code;

    #[test]
    fn a_call_shows_under_caller_callee_method_and_code() {
        let mut registry = Registry::default();
        let metrics = CallMetrics::outbound(&mut registry);
        let pair = metrics.between("edge", "links");
        let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
        pair.observe(method, Code::Ok, Duration::from_micros(150));
        metrics.between("edge", "links").observe(method, Code::NotFound, Duration::from_secs(20));
        pair.count(method, Event::Retry);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let labels =
            r#"caller="edge",callee="links",method="linkmesh.links.v1.LinksService/GetLink""#;
        for line in [
            format!(r#"mesh_requests_total{{{labels},code="Ok"}} 1"#),
            format!(r#"mesh_requests_total{{{labels},code="NotFound"}} 1"#),
            format!(r#"mesh_retries_total{{{labels}}} 1"#),
            format!(r#"mesh_request_duration_seconds_count{{{labels}}} 2"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="0.0001",{labels}}} 0"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="0.0002",{labels}}} 1"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="10.0",{labels}}} 1"#),
            format!(r#"mesh_request_duration_seconds_bucket{{le="+Inf",{labels}}} 2"#),
        ] {
            assert!(page.contains(&line), "{line}\n{page}");
        }
    }

    #[test]
    fn what_was_counted_is_told_whole() {
        let metrics = CallMetrics::inbound(&mut Registry::default());
        let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
        let pair = metrics.between("edge", "links");
        assert!(metrics.stats().is_empty(), "nothing was called");
        pair.observe(method, Code::PermissionDenied, Duration::from_micros(42));
        pair.count(method, Event::Denied);
        let stats = metrics.stats();
        assert_eq!(stats.len(), 1);
        let CallStats { caller, callee, method, codes, events, latency } = &stats[0];
        assert_eq!((caller.as_str(), callee.as_str()), ("edge", "links"));
        assert_eq!(method, "linkmesh.links.v1.LinksService/GetLink");
        assert_eq!(codes, &[(Code::PermissionDenied, 1)]);
        assert_eq!(events, &[("mesh_server_denied", 1)]);
        let bucket = latency.buckets[0];
        assert_eq!((bucket.from, bucket.count), (Duration::from_micros(42), 1));
        assert_eq!(bucket.to, Some(Duration::from_micros(44)));
    }
}
