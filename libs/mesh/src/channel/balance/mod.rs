//! The choice among the endpoints of a service.
//!
//! What can be prepared is: a [`Balancer`] is immutable and replaced when the health of an endpoint changes ([`plan`]). A call
//! looks at two endpoints, or a few more if those can't take it; only if none of them can, at all.

mod aperture;
pub(super) mod plan;
mod ring;
mod round_robin;
mod sampler;
#[cfg(test)]
mod tests;
mod tiers;

pub(super) use aperture::Position;

use super::clock::Tick;
use super::endpoint::Endpoint;
use super::endpoint::Reserved;
use super::flight::Probe;
use super::health::Standing;
use super::routes::Picked;
use super::routes::Selection;
use crate::policy::Algorithm;
use rand::Rng;
use rand::RngExt as _;
use ring::Ring;
use round_robin::Schedule;
use sampler::Sampler;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// How often a choice is made among the prepared endpoints before all are looked at.
const DRAWS_MAX: usize = 4;
/// How many endpoints without a connection one call asks to open one.
const WANTED_EACH_MAX: usize = 2;
/// The same for a call that no endpoint is connected for.
const WANTED_AT_ONCE_MAX: usize = 16;

/// Chooses among some endpoints.
#[derive(Debug)]
pub(super) struct Balancer {
    /// All of them.
    members: Arc<[Arc<Endpoint>]>,
    algorithm: Algorithm,
    /// Those that take calls, the nearest first. Never empty where the shares are not.
    tiers: Box<[Tier]>,
    /// Healthy ones without a connection, near enough to be used.
    idle: Box<[Arc<Endpoint>]>,
    /// Those whose time out of use may have passed.
    probation: Box<[Arc<Endpoint>]>,
    /// So few are healthy that health is ignored.
    panic: bool,
    /// Some endpoint is healthy.
    able: bool,
    /// Whose turn it is.
    sequence: Arc<AtomicU32>,
}

/// Endpoints that are as near as each other.
#[derive(Debug)]
struct Tier {
    /// Connected and healthy.
    ready: Box<[Arc<Endpoint>]>,
    /// This tier takes the calls whose random number is below, and not below that of the tier before.
    below: u32,
    choice: Choice,
}

/// How one is chosen.
#[derive(Debug)]
enum Choice {
    /// The better of two.
    Two(Sampler),
    /// Whose turn it is.
    Turns(Schedule),
    /// Where the key lies on a ring of all members of the tier; the sampler is for calls without a key.
    Ring { ring: Arc<Ring>, members: Arc<[Arc<Endpoint>]>, sampler: Sampler },
}

impl Balancer {
    /// Chooses an endpoint and reserves a stream on it.
    pub(super) fn pick(&self, selection: &Selection<'_>) -> Picked {
        let mut random = rand::rng();
        let mut attempt = Attempt { selection, now: self.tick(selection.now), full: false };
        if !self.idle.is_empty() {
            self.want_some(&mut random);
        }
        if !self.probation.is_empty()
            && let Some(picked) = self.probe(&mut attempt)
        {
            return picked;
        }
        if let Some(tier) = self.tier(selection, &mut random)
            && let Some(picked) = self.draw(tier, &mut attempt, &mut random)
        {
            return picked;
        }
        self.scan(&mut attempt)
    }

    /// Whether a call has a fair chance: some endpoint is healthy, or may be tried whether it is again.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.able || self.probation.iter().any(|it| is_probe_due(it, self.tick(now)))
    }

    fn tick(&self, now: Instant) -> Tick {
        self.members.first().map(|endpoint| endpoint.tick(now)).unwrap_or_default()
    }

    /// Asks some endpoints to connect: as many as calls come, so that a service that is hardly called is hardly connected to.
    fn want_some(&self, random: &mut impl Rng) {
        for _ in 0..WANTED_EACH_MAX {
            self.idle[random.random_range(0..self.idle.len())].want();
        }
    }

    /// The tier that takes a call: the same for the same key.
    fn tier(&self, selection: &Selection<'_>, random: &mut impl Rng) -> Option<&Tier> {
        if self.tiers.len() <= 1 {
            return self.tiers.first();
        }
        let place = match (&self.algorithm, selection.hash) {
            (Algorithm::RingHash { .. }, Some(hash)) => lower(hash),
            _ => random.next_u32(),
        };
        self.tiers.iter().find(|tier| place < tier.below).or_else(|| self.tiers.last())
    }

    /// The one call of an endpoint's probation, if that is due.
    fn probe(&self, attempt: &mut Attempt<'_>) -> Option<Picked> {
        for endpoint in &self.probation {
            if attempt.was_tried(endpoint) || !is_probe_due(endpoint, attempt.now) {
                continue;
            }
            if !endpoint.health.begin_probe(attempt.now) {
                continue;
            }
            // Dropped with a stream that can't be had, it says that nobody knows.
            let probe = Probe::new(Arc::clone(endpoint));
            if let Reserved::Stream(mut stream) = endpoint.reserve() {
                stream.probe = Some(probe);
                return Some(Picked::Endpoint(Arc::clone(endpoint), stream));
            }
        }
        None
    }

    fn draw(
        &self,
        tier: &Tier,
        attempt: &mut Attempt<'_>,
        random: &mut impl Rng,
    ) -> Option<Picked> {
        let sampler = match &tier.choice {
            Choice::Two(sampler) => sampler,
            Choice::Turns(schedule) => {
                let turns = (0..DRAWS_MAX).filter_map(|_| schedule.next(&self.sequence));
                return turns.filter_map(|at| tier.ready.get(at)).find_map(|it| attempt.take(it));
            }
            Choice::Ring { ring, members, sampler } => {
                if let Some(key) = attempt.selection.hash {
                    let mut walk = ring.walk(key).filter_map(|at| members.get(at));
                    let healthy = walk
                        .find_map(|it| self.may_use(it, attempt.now).then(|| attempt.take(it))?);
                    if healthy.is_some() {
                        return healthy;
                    }
                }
                sampler
            }
        };
        for _ in 0..DRAWS_MAX {
            let (first, second) = sampler.two(tier.ready.len(), random)?;
            let (first, second) = (&tier.ready[first], second.map(|second| &tier.ready[second]));
            let picked = match second.filter(|second| !attempt.was_tried(second)) {
                None => attempt.take(first),
                Some(second) => {
                    let (better, worse) =
                        if self.cost(second, attempt.now) < self.cost(first, attempt.now) {
                            (second, first)
                        } else {
                            (first, second)
                        };
                    attempt.take(better).or_else(|| attempt.take(worse))
                }
            };
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    fn cost(&self, endpoint: &Endpoint, now: Tick) -> f32 {
        match self.algorithm {
            Algorithm::LeastRequest => endpoint.busyness(now),
            Algorithm::PeakEwma | Algorithm::RoundRobin | Algorithm::RingHash { .. } => {
                endpoint.cost(now)
            }
        }
    }

    /// Whether so few are healthy that health is ignored.
    pub(in crate::channel) fn is_panicking(&self) -> bool {
        self.panic
    }

    fn may_use(&self, endpoint: &Endpoint, now: Tick) -> bool {
        self.panic || endpoint.standing(now) == Standing::Healthy
    }

    /// The cheapest of all that can take the call, those first that are neither leaving nor tried before.
    fn scan(&self, attempt: &mut Attempt<'_>) -> Picked {
        let now = attempt.now;
        let mut candidates: Vec<_> = self
            .members
            .iter()
            .filter(|endpoint| self.may_use(endpoint, now) && endpoint.is_connected())
            .map(|endpoint| {
                let rank = match (attempt.was_tried(endpoint), endpoint.is_draining()) {
                    (false, false) => Rank::Fresh,
                    (false, true) => Rank::Draining,
                    (true, _) => Rank::Tried,
                };
                (rank, self.cost(endpoint, now), endpoint)
            })
            .collect();
        candidates.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        for (rank, _, endpoint) in &candidates {
            if *rank == Rank::Tried && self.panic && !self.able {
                return Picked::AllUnhealthy;
            }
            if let Some(picked) = attempt.reserve(endpoint) {
                return picked;
            }
        }
        if attempt.full {
            return Picked::Full;
        }
        // Whoever is wanted already and fails to connect tries again, but no sooner than is good for it.
        let start = rand::rng().random_range(0..self.members.len().max(1));
        let around = self.members[start..].iter().chain(&self.members[..start]);
        let unconnected = around.filter(|endpoint| !endpoint.is_connected());
        unconnected.take(WANTED_AT_ONCE_MAX).for_each(|endpoint| endpoint.want());
        Picked::Unready
    }
}

/// How endpoints are ranked before their load counts: each rank is used only if those before have none to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Neither leaving nor tried before.
    Fresh,
    /// Leaving, not tried before.
    Draining,
    /// Tried before: better than nothing.
    Tried,
}

struct Attempt<'a> {
    selection: &'a Selection<'a>,
    now: Tick,
    /// Someone had no stream left.
    full: bool,
}

impl Attempt<'_> {
    fn was_tried(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.selection.tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }

    /// Reserves a stream, unless the endpoint was tried before.
    fn take(&mut self, endpoint: &Arc<Endpoint>) -> Option<Picked> {
        if self.was_tried(endpoint) { None } else { self.reserve(endpoint) }
    }

    fn reserve(&mut self, endpoint: &Arc<Endpoint>) -> Option<Picked> {
        match endpoint.reserve() {
            Reserved::Stream(stream) => Some(Picked::Endpoint(Arc::clone(endpoint), stream)),
            Reserved::Full => {
                self.full = true;
                None
            }
            Reserved::Unconnected => None,
        }
    }
}

fn is_probe_due(endpoint: &Endpoint, now: Tick) -> bool {
    matches!(endpoint.standing(now), Standing::Unhealthy(left) if left.is_zero())
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn lower(hash: u64) -> u32 {
    hash as u32
}
