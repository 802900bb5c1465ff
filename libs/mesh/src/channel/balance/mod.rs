//! The choice among the endpoints of a service.

use super::endpoint::Endpoint;
use super::endpoint::Reserved;
use super::routes::Picked;
use super::routes::Selection;
use rand::RngExt as _;
use std::sync::Arc;
use std::time::Instant;

/// Chooses among some endpoints.
#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
}

/// How endpoints are ranked before their load counts: each rank is used only if those before have none to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// Neither leaving nor tried before.
    Fresh,
    /// Leaving, not tried before.
    Draining,
    /// Tried before: better than nothing.
    Tried,
}

const RANKS: [Rank; 3] = [Rank::Fresh, Rank::Draining, Rank::Tried];

impl Balancer {
    /// Two random endpoints of the best rank that has a connected one; the cheaper gets the call.
    pub(super) fn pick(&self, selection: &Selection<'_>) -> Picked {
        let &Selection { tried, now, .. } = selection;
        let mut full = false;
        for rank in RANKS {
            let eligible =
                |endpoint: &Arc<Endpoint>| rank_of(endpoint, tried) == rank && endpoint.is_ready();
            let Some((first, second)) = self.two(eligible) else { continue };
            let (cheaper, dearer) = match second {
                Some(second) if second.cost(now) < first.cost(now) => (second, Some(first)),
                second => (first, second),
            };
            // Where the two chosen are full, any other is better than to wait.
            let others = self.endpoints.iter().filter(|endpoint| eligible(endpoint));
            for endpoint in [cheaper].into_iter().chain(dearer).chain(others) {
                match endpoint.reserve() {
                    Reserved::Stream(stream) => {
                        return Picked::Endpoint(Arc::clone(endpoint), stream);
                    }
                    Reserved::Full => full = true,
                    Reserved::Unconnected => {}
                }
            }
        }
        if full { Picked::Full } else { Picked::Unready }
    }

    /// Whether some endpoint is connected; if none is, connections are asked for.
    pub(super) fn is_usable(&self, _now: Instant) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is_ready())
    }

    /// Two different random endpoints that are eligible; one if there is only one.
    fn two(
        &self,
        eligible: impl Fn(&Arc<Endpoint>) -> bool,
    ) -> Option<(&Arc<Endpoint>, Option<&Arc<Endpoint>>)> {
        let endpoints = &self.endpoints;
        if endpoints.is_empty() {
            return None;
        }
        let mut random = rand::rng();
        let mut at = random.random_range(0..endpoints.len());
        let from = |at: usize| endpoints[at..].iter().chain(&endpoints[..at]).enumerate();
        let (skipped, first) = from(at).find(|(_, endpoint)| eligible(endpoint))?;
        at = (at + skipped) % endpoints.len();
        if endpoints.len() == 1 {
            return Some((first, None));
        }
        // Any of the others with the same chance, as long as all are eligible.
        let start = (at + random.random_range(1..endpoints.len())) % endpoints.len();
        let second = from(start)
            .map(|(_, endpoint)| endpoint)
            .find(|endpoint| !Arc::ptr_eq(endpoint, first) && eligible(endpoint));
        Some((first, second))
    }
}

fn rank_of(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> Rank {
    if tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)) {
        Rank::Tried
    } else if endpoint.is_draining() {
        Rank::Draining
    } else {
        Rank::Fresh
    }
}
