//! Who serves what: an immutable snapshot, replaced as a whole, and the choice among the endpoints of a service.

use super::balance::Balancer;
use super::budget::Budget;
use super::connection::Stream;
use super::endpoint::Endpoint;
use crate::metrics::PairMetrics;
use crate::policy::Policy;
use rapidhash::RapidHashMap;
use std::sync::Arc;
use std::time::Instant;

/// By gRPC service, the endpoints that serve it.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) by_service: RapidHashMap<String, Arc<Route>>,
}

/// The endpoints of one gRPC service, and how they are called.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) policy: Arc<Policy>,
    /// Of all that the service's retries and hedges may take.
    pub(super) budget: Arc<Budget>,
    /// What is counted of calls to the service.
    pub(super) metrics: Arc<PairMetrics>,
    /// Over all endpoints.
    pub(super) all: Balancer,
    /// Over those of each of the policy's subsets, in the same order.
    pub(super) subsets: Vec<Balancer>,
}

/// For whom an endpoint is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'a> {
    /// Among the endpoints of this one of the policy's subsets only.
    pub(super) subset: Option<usize>,
    /// Those that this call was sent to already: better than nothing, but no more.
    pub(super) tried: &'a [Arc<Endpoint>],
    /// By which a ring hash chooses.
    pub(super) hash: Option<u64>,
    pub(super) now: Instant,
}

/// What came of a choice.
#[derive(Debug)]
pub(super) enum Picked {
    Endpoint(Arc<Endpoint>, Stream),
    /// Endpoints are there, but every stream of theirs is in use.
    Full,
    /// None is connected.
    Unready,
    /// Each one that is connected is unhealthy, and was tried all the same.
    AllUnhealthy,
}

impl Route {
    /// Chooses an endpoint and reserves a stream on it.
    pub(super) fn pick(&self, selection: &Selection<'_>) -> Picked {
        self.balancer(selection.subset).pick(selection)
    }

    /// Whether a call to a subset has a fair chance: some endpoint of it is healthy, connected or about to be.
    pub(super) fn is_usable(&self, subset: Option<usize>, now: Instant) -> bool {
        self.balancer(subset).is_usable(now)
    }

    /// Whether so few of the service's endpoints are healthy that health is ignored.
    pub(super) fn is_panicking(&self) -> bool {
        self.all.is_panicking()
    }

    fn balancer(&self, subset: Option<usize>) -> &Balancer {
        // A subset that is not there was one of another policy's: its calls are as all others.
        subset.and_then(|subset| self.subsets.get(subset)).unwrap_or(&self.all)
    }
}
