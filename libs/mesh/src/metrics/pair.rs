//! What is counted between one caller and one callee. A method's counters are made when it is first called.

use super::CodeLabels;
use super::Event;
use super::Families;
use super::Incident;
use super::MethodLabels;
use super::PairLabels;
use super::histogram::Histogram;
use super::histogram::Latency;
use crate::methods::METHODS;
use crate::methods::Method;
use prometheus_client::metrics::counter::Counter;
use std::sync::OnceLock;
use std::time::Duration;
use tonic::Code;

/// How many gRPC codes there are.
const CODES: usize = 17;

/// The metrics between one caller and one callee.
#[derive(Debug)]
pub(crate) struct PairMetrics {
    families: Families,
    caller: String,
    callee: String,
    methods: Box<[OnceLock<Box<MethodMetrics>>]>,
    other: OnceLock<Box<MethodMetrics>>,
}

#[derive(Debug)]
struct MethodMetrics {
    by_code: [OnceLock<Counter>; CODES],
    events: [OnceLock<Counter>; Event::ALL.len()],
    duration: Histogram,
}

/// What one caller's calls of one method have come to, since the process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStats {
    /// The service that calls.
    pub caller: String,
    /// The service that is called; `none` if no instance was found to call.
    pub callee: String,
    /// `linkmesh.links.v1.LinksService/GetLink`, or `other` for what is in no descriptor.
    pub method: String,
    /// How many calls ended with each code; codes that none ended with are left out.
    pub codes: Vec<(Code, u64)>,
    /// How often something happened to a call on its way, by the name of its metric without `_total`; what never did is left out.
    pub events: Vec<(&'static str, u64)>,
    /// How long calls took.
    pub latency: Latency,
}

impl PairMetrics {
    pub(super) fn new(families: Families, caller: &str, callee: &str) -> Self {
        Self {
            families,
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            methods: (0..METHODS.count()).map(|_| OnceLock::new()).collect(),
            other: OnceLock::new(),
        }
    }

    /// Counts a call that is done.
    pub(crate) fn observe(&self, method: &Method, code: Code, duration: Duration) {
        let metrics = self.of(method);
        let counter = usize::try_from(i32::from(code)).ok().and_then(|at| metrics.by_code.get(at));
        counter
            .expect("a gRPC code is 0 to 16")
            .get_or_init(|| {
                let labels = CodeLabels {
                    caller: self.caller.clone(),
                    callee: self.callee.clone(),
                    method: method.name.clone(),
                    code: format!("{code:?}"),
                };
                self.families.requests.get_or_create_owned(&labels)
            })
            .inc();
        metrics.duration.observe(duration);
    }

    /// Counts something that happened to a call on its way.
    pub(crate) fn count(&self, method: &Method, event: Event) {
        let counter = &self.of(method).events[event.index()];
        let family = &self.families.events[event.index()];
        counter.get_or_init(|| family.get_or_create_owned(&self.labels(&method.name))).inc();
    }

    /// Counts something that befell one of the callee's instances. Rare, so it may take a lock.
    pub(crate) fn befell(&self, incident: Incident) {
        let labels = PairLabels { caller: self.caller.clone(), callee: self.callee.clone() };
        self.families.incidents[incident.index()].get_or_create(&labels).inc();
    }

    /// What was counted until now, by method.
    pub(super) fn stats(&self) -> Vec<CallStats> {
        let named = METHODS.names().iter().map(String::as_str).zip(&self.methods);
        let other = ("other", &self.other);
        named
            .chain([other])
            .filter_map(|(method, cell)| {
                let metrics = cell.get()?;
                Some(CallStats {
                    caller: self.caller.clone(),
                    callee: self.callee.clone(),
                    method: method.to_owned(),
                    codes: metrics.codes(),
                    events: metrics.events(),
                    latency: metrics.duration.latency(),
                })
            })
            .collect()
    }

    fn of(&self, method: &Method) -> &MethodMetrics {
        let cell = method.index.map_or(&self.other, |index| &self.methods[index]);
        cell.get_or_init(|| {
            let labels = self.labels(&method.name);
            Box::new(MethodMetrics {
                by_code: [const { OnceLock::new() }; CODES],
                events: [const { OnceLock::new() }; Event::ALL.len()],
                duration: self.families.durations.get_or_create_owned(&labels),
            })
        })
    }

    fn labels(&self, method: &str) -> MethodLabels {
        MethodLabels {
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            method: method.to_owned(),
        }
    }
}

impl MethodMetrics {
    fn codes(&self) -> Vec<(Code, u64)> {
        let counted = self.by_code.iter().zip(0_i32..);
        counted
            .filter_map(|(counter, code)| Some((Code::from_i32(code), counter.get()?.get())))
            .collect()
    }

    fn events(&self) -> Vec<(&'static str, u64)> {
        let counted = Event::ALL.into_iter().zip(&self.events);
        counted
            .filter_map(|(event, counter)| Some((event.metric(), counter.get()?.get())))
            .collect()
    }
}
