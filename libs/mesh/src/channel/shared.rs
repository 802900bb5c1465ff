//! What all clones of a mesh share.

use super::fault::ActiveFaults;
use super::latencies::Latencies;
use super::mirror::Mirrors;
use super::payload::Replays;
use super::resolver::Published;
use super::routes::Route;
use super::routes::Routes;
use super::waiting::Waiting;
use crate::metrics::CallMetrics;
use crate::metrics::PairMetrics;
use crate::policy::PolicyCell;
use arc_swap::ArcSwap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Shared {
    /// Who serves what.
    pub(super) routes: ArcSwap<Routes>,
    /// The same, for people.
    pub(super) published: ArcSwap<Published>,
    pub(super) waiting: Arc<Waiting>,
    /// The policy of the service that calls, for its own server.
    pub(super) policy: PolicyCell,
    /// What is counted of calls.
    pub(super) metrics: CallMetrics,
    /// For calls that were sent to nobody.
    pub(super) unrouted: Arc<PairMetrics>,
    /// The service that calls.
    pub(super) caller: String,
    pub(super) replays: Replays,
    pub(super) faults: ActiveFaults,
    pub(super) latencies: Latencies,
    pub(super) mirrors: Mirrors,
}

impl Shared {
    /// Who serves a gRPC service at the moment, and how it is called.
    pub(super) fn route(&self, service: &str) -> Option<Arc<Route>> {
        self.routes.load().by_service.get(service).cloned()
    }
}
