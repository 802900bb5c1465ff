//! How an attempt comes by an endpoint: subset, locality and pick; and if there is none, a short wait for one.

use super::connection::Stream;
use super::endpoint::Endpoint;
use super::routes::Picked;
use super::routes::Route;
use super::routes::Selection;
use super::shared::Shared;
use super::subset::Target;
use crate::policy::Algorithm;
use crate::policy::Policy;
use http::HeaderMap;
use proto::common::v1::ErrorReason;
use rapidhash::v3::rapidhash_v3;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tonic::Status;

/// How long a call waits for an endpoint, deadline permitting: longer than one that restarts is away from its peers.
const ENDPOINT_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the choice of an endpoint needs to know of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) shared: &'a Shared,
    /// The gRPC service.
    pub(super) service: &'a str,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) target: Target<'a>,
    pub(super) hash: Option<u64>,
}

/// An endpoint with a stream reserved on it.
pub(super) type Place = (Arc<Endpoint>, Stream);

/// What a ring hash chooses by.
pub(super) fn hash(policy: &Policy, headers: &HeaderMap) -> Option<u64> {
    let Algorithm::RingHash { header } = &policy.balancing.algorithm else { return None };
    headers.get(header).map(|value| rapidhash_v3(value.as_bytes()))
}

/// The route of a service; if it has none yet, a short wait for one.
pub(super) async fn route(
    shared: &Shared,
    service: &str,
    stated: Option<Instant>,
) -> Result<Arc<Route>, Status> {
    let look = || match shared.route(service) {
        Some(route) => Looked::Found(route),
        None => Looked::NotYet(unreachable(service)),
    };
    wait(shared, service, stated, look).await
}

impl Choice<'_> {
    /// An endpoint over a route that was just looked up.
    pub(super) fn try_pick(&self, route: &Route, tried: &[Arc<Endpoint>], now: Instant) -> Picked {
        let subset = self.target.choose(self.policy, route, now);
        if subset.is_none() && matches!(self.target, Target::Subset(_)) {
            // A copy goes to its subset or nowhere, also when a new policy no longer has the subset.
            return Picked::AllUnhealthy;
        }
        route.pick(&Selection { subset, tried, hash: self.hash, now })
    }

    /// An endpoint over the route as it is now, if there is one at once.
    pub(super) fn pick_now(&self, tried: &[Arc<Endpoint>], now: Instant) -> Option<Place> {
        match self.try_pick(&*self.shared.route(self.service)?, tried, now) {
            Picked::Endpoint(endpoint, stream) => Some((endpoint, stream)),
            Picked::Full | Picked::Unready | Picked::AllUnhealthy => None,
        }
    }

    /// An endpoint; if there is none, waits a little for one.
    pub(super) async fn pick(&self, tried: &[Arc<Endpoint>]) -> Result<Place, Status> {
        let look = || {
            let route = self.shared.route(self.service);
            let picked =
                route.map_or(Picked::Unready, |route| self.try_pick(&route, tried, Instant::now()));
            self.looked(picked)
        };
        wait(self.shared, self.service, None, look).await
    }

    fn looked(&self, picked: Picked) -> Looked<Place> {
        let service = self.service;
        match picked {
            Picked::Endpoint(endpoint, stream) => Looked::Found((endpoint, stream)),
            Picked::Unready => Looked::NotYet(unreachable(service)),
            Picked::Full => Looked::NotYet(rpc::Error::overloaded(
                format!("all instances of `{service}` have as many calls as they take"),
                Duration::from_secs(1),
            )),
            Picked::AllUnhealthy => Looked::Never(rpc::Error::unavailable(
                ErrorReason::AllUnhealthy,
                format!(
                    "every instance of `{service}` that can be reached is unhealthy, and was tried"
                ),
            )),
        }
    }
}

fn unreachable(service: &str) -> rpc::Error {
    let message = format!("no instance of `{service}` can be reached");
    rpc::Error::unavailable(ErrorReason::NoEndpoint, message)
}

/// What was found.
enum Looked<T> {
    Found(T),
    /// Nothing, but that may change.
    NotYet(rpc::Error),
    /// Nothing that waiting would help.
    Never(rpc::Error),
}

/// Looks until there is something, or it can't be expected any more.
async fn wait<T>(
    shared: &Shared,
    service: &str,
    until: Option<Instant>,
    look: impl Fn() -> Looked<T>,
) -> Result<T, Status> {
    let Some(ticket) = shared.waiting.enter() else {
        let message = format!("too many calls wait for `{service}`");
        return Err(rpc::Error::overloaded(message, Duration::from_secs(1)).into());
    };
    let latest = Instant::now() + ENDPOINT_WAIT_MAX;
    let until = tokio::time::Instant::from_std(until.map_or(latest, |until| until.min(latest)));
    loop {
        // Before looking again, so that no change is missed in between.
        let changed = ticket.changed();
        let why = match look() {
            Looked::Found(found) => return Ok(found),
            Looked::Never(why) => return Err(why.into()),
            Looked::NotYet(why) => why,
        };
        if tokio::time::timeout_at(until, changed).await.is_err() {
            return Err(why.into());
        }
    }
}
