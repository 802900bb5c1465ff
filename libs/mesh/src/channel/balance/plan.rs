//! Makes a [`Balancer`] of a service's endpoints as they are at a moment, and remembers what must outlive it.

use super::Balancer;
use super::Choice;
use super::Tier;
use super::aperture;
use super::aperture::Position;
use super::ring::Ring;
use super::round_robin::Schedule;
use super::sampler::Sampler;
use super::tiers;
use super::tiers::Place;
use super::tiers::Seen;
use crate::channel::clock::Tick;
use crate::channel::endpoint::Endpoint;
use crate::channel::health::Standing;
use crate::policy::Algorithm;
use crate::policy::Balancing;
use crate::registry::Instance;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// A balancer's endpoints, as long as nobody joins or leaves.
#[derive(Debug)]
pub(in crate::channel) struct Plan {
    members: Arc<[Arc<Endpoint>]>,
    tiers: Vec<Group>,
    algorithm: Algorithm,
    healthy_percent_min: u32,
    panic_percent: u32,
    sequence: Arc<AtomicU32>,
}

/// The members of a tier.
#[derive(Debug)]
struct Group {
    /// How near, and whether outside the caller's aperture: what it is remembered by.
    key: (usize, bool),
    members: Arc<[Arc<Endpoint>]>,
    /// How much of each is the caller's to use; empty: all of them.
    shares: Vec<f32>,
    ring: Option<Arc<Ring>>,
    state: tiers::Tier,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy)]
pub(in crate::channel) struct Standpoint<'a> {
    pub(in crate::channel) zone: &'a str,
    pub(in crate::channel) region: &'a str,
    /// Among the callers of its zone; none: not known.
    pub(in crate::channel) in_zone: Option<Position>,
    /// Among all callers.
    pub(in crate::channel) among_all: Option<Position>,
}

/// An endpoint and what the registry says of it.
pub(in crate::channel) type Member<'a> = (&'a Instance, &'a Arc<Endpoint>);

/// An endpoint, and how much of it is the caller's to use.
type Shared = (Arc<Endpoint>, f32);

/// How near an instance is: 0 for the caller's own zone.
pub(in crate::channel) fn tier_of(
    standpoint: Standpoint<'_>,
    instance: &Instance,
    balancing: &Balancing,
) -> usize {
    let own = Place { zone: standpoint.zone, region: standpoint.region };
    let other = Place { zone: &instance.zone, region: &instance.region };
    tiers::rank(own, other, balancing.locality.as_ref())
}

impl Plan {
    /// A plan for these endpoints; what the plan before it remembers goes on.
    pub(in crate::channel) fn new(
        members: &[Member<'_>],
        balancing: &Balancing,
        panic_percent: u32,
        standpoint: Standpoint<'_>,
        before: Option<Self>,
        now: Instant,
    ) -> Self {
        let (sequence, mut states) = match before {
            None => (Arc::default(), BTreeMap::new()),
            Some(before) => {
                let states = before.tiers.into_iter().map(|tier| (tier.key, tier.state));
                (before.sequence, states.collect())
            }
        };
        let mut by_rank: BTreeMap<usize, Vec<Member<'_>>> = BTreeMap::new();
        for member in members.iter().filter(|(instance, _)| !instance.draining) {
            by_rank.entry(tier_of(standpoint, member.0, balancing)).or_default().push(*member);
        }
        let zoned = balancing.locality.is_some() && !standpoint.zone.is_empty();
        let mut tiers = Vec::new();
        for (rank, members) in by_rank {
            let position =
                if zoned && rank == 0 { standpoint.in_zone } else { standpoint.among_all };
            for (outside, members) in slices(members, balancing, position) {
                let key = (rank, outside);
                let state = states.remove(&key).unwrap_or_else(|| tiers::Tier::new(now));
                tiers.push(Group::new(key, members, &balancing.algorithm, state));
            }
        }
        // A tier that lost all its members for now has not forgotten that it has to earn its share.
        for (key, state) in states {
            tiers.push(Group::new(key, Vec::new(), &balancing.algorithm, state));
        }
        tiers.sort_by_key(|tier| tier.key);
        let locality = balancing.locality.as_ref();
        Self {
            members: members.iter().map(|(_, endpoint)| Arc::clone(endpoint)).collect(),
            tiers,
            algorithm: balancing.algorithm.clone(),
            healthy_percent_min: locality.map_or(100, |locality| locality.healthy_percent_min),
            panic_percent,
            sequence,
        }
    }

    /// The balancer for this moment, and whether it will be another one soon without any news.
    pub(in crate::channel) fn balancer(&mut self, tick: Tick, now: Instant) -> (Balancer, bool) {
        let sorted: Vec<Sorted> = self.tiers.iter().map(|tier| Sorted::of(tier, tick)).collect();
        let members: usize = sorted.iter().map(|tier| tier.seen.members).sum();
        let able: usize = sorted.iter().map(|tier| tier.seen.able).sum();
        let panic = able * 100 < members * self.panic_percent as usize;
        let mut settled = sorted.iter().all(|tier| tier.probation.is_empty());
        let percent = self.healthy_percent_min;
        let mut takes = Vec::new();
        for (tier, sorted) in self.tiers.iter_mut().zip(&sorted) {
            takes.push(tier.state.take(sorted.seen, percent, now));
            settled &= sorted.seen.able == 0 || tier.state.is_settled(sorted.seen, percent);
        }
        let mut balancer = Balancer {
            members: Arc::clone(&self.members),
            algorithm: self.algorithm.clone(),
            tiers: Box::default(),
            idle: Box::default(),
            probation: Box::default(),
            panic,
            able: able > 0,
            sequence: Arc::clone(&self.sequence),
        };
        let mut idle = Vec::new();
        let mut probation = Vec::new();
        if panic {
            let all = sorted.into_iter().flat_map(|tier| {
                idle.extend(tier.idle);
                probation.extend(tier.probation);
                tier.connected
            });
            let ready: Vec<_> = all.map(|endpoint| (endpoint, 1.0)).collect();
            balancer.tiers = [Tier::new(ready, u32::MAX, &self.algorithm, None)].into();
        } else {
            let shares = tiers::shares(&takes);
            let last = shares.iter().rposition(|share| *share > 0.0).unwrap_or(0);
            let mut tiers = Vec::new();
            let mut sum = 0.0_f32;
            for ((at, sorted), share) in sorted.into_iter().enumerate().zip(shares) {
                // Those that are nearer than the farthest that is used are to come back.
                if at <= last {
                    idle.extend(sorted.idle);
                    probation.extend(sorted.probation);
                }
                sum += share;
                if share > 0.0 && !sorted.ready.is_empty() {
                    let group = &self.tiers[at];
                    tiers.push(Tier::new(
                        sorted.ready,
                        as_bound(sum),
                        &self.algorithm,
                        Some(group),
                    ));
                }
            }
            balancer.tiers = tiers.into();
        }
        balancer.idle = idle.into();
        balancer.probation = probation.into();
        (balancer, settled)
    }
}

impl Group {
    fn new(
        key: (usize, bool),
        members: Vec<Shared>,
        algorithm: &Algorithm,
        state: tiers::Tier,
    ) -> Self {
        let (members, shares): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let ring = matches!(algorithm, Algorithm::RingHash { .. }).then(|| {
            let weights = members.iter().map(|it| (it.instance.as_str(), it.weight_registered()));
            Arc::new(Ring::new(weights))
        });
        let whole = shares.iter().all(|share| *share >= 1.0);
        let shares = if whole { Vec::new() } else { shares };
        Self { key, members: members.into(), shares, ring, state }
    }
}

impl Tier {
    fn new(ready: Vec<Shared>, below: u32, algorithm: &Algorithm, group: Option<&Group>) -> Self {
        let weights: Vec<f32> = ready.iter().map(|(it, share)| it.weight() * share).collect();
        let choice = match algorithm {
            Algorithm::PeakEwma | Algorithm::LeastRequest => Choice::Two(Sampler::new(&weights)),
            Algorithm::RoundRobin => Choice::Turns(Schedule::new(&weights)),
            Algorithm::RingHash { .. } => {
                let sampler = Sampler::new(&weights);
                match group.and_then(|group| Some((group.ring.clone()?, &group.members))) {
                    Some((ring, members)) => {
                        Choice::Ring { ring, members: Arc::clone(members), sampler }
                    }
                    None => Choice::Two(sampler),
                }
            }
        };
        Self { ready: ready.into_iter().map(|(endpoint, _)| endpoint).collect(), below, choice }
    }
}

/// A tier's members by what can be done with them.
#[derive(Default)]
struct Sorted {
    /// Connected and healthy, and how much of each is the caller's to use.
    ready: Vec<Shared>,
    /// Connected, healthy or not.
    connected: Vec<Arc<Endpoint>>,
    /// Healthy as far as is known, and not connected.
    idle: Vec<Arc<Endpoint>>,
    /// Out of use after failures, and connected.
    probation: Vec<Arc<Endpoint>>,
    seen: Seen,
}

impl Sorted {
    fn of(tier: &Group, tick: Tick) -> Self {
        let mut sorted = Self::default();
        sorted.seen.members = tier.members.len();
        for (at, endpoint) in tier.members.iter().enumerate() {
            sorted.seen.refusals.add(endpoint.health.last_second(tick));
            let connected = endpoint.is_connected();
            if connected {
                sorted.connected.push(Arc::clone(endpoint));
            }
            match endpoint.standing(tick) {
                Standing::Healthy if connected => {
                    let share = tier.shares.get(at).copied().unwrap_or(1.0);
                    sorted.ready.push((Arc::clone(endpoint), share));
                    sorted.seen.able += 1;
                }
                Standing::Healthy if endpoint.is_unreachable() => {}
                Standing::Healthy => {
                    sorted.idle.push(Arc::clone(endpoint));
                    sorted.seen.able += 1;
                }
                Standing::Unhealthy(_) if connected => sorted.probation.push(Arc::clone(endpoint)),
                Standing::Unhealthy(_) | Standing::Ejected(_) => {}
            }
        }
        sorted
    }
}

/// The members within the caller's aperture, and those outside, which are the next tier; with how much of each is the caller's.
fn slices(
    members: Vec<Member<'_>>,
    balancing: &Balancing,
    position: Option<Position>,
) -> Vec<(bool, Vec<Shared>)> {
    let whole = |members: Vec<Member<'_>>| -> Vec<Shared> {
        members.into_iter().map(|(_, endpoint)| (Arc::clone(endpoint), 1.0)).collect()
    };
    let (Some(instances_min), Some(position)) = (balancing.aperture_instances_min, position) else {
        return vec![(false, whole(members))];
    };
    let mut members = members;
    members.sort_by_cached_key(|(instance, _)| aperture::place(&instance.instance));
    let weights: Vec<f32> = members.iter().map(|(_, it)| it.weight_registered()).collect();
    let coverage = aperture::coverage(&weights, position, instances_min);
    let (inside, outside): (Vec<_>, Vec<_>) =
        members.into_iter().zip(coverage).partition(|(_, share)| *share > 0.0);
    let inside = inside.into_iter().map(|((_, it), share)| (Arc::clone(it), share)).collect();
    let outside: Vec<_> = outside.into_iter().map(|(member, _)| member).collect();
    let mut slices = vec![(false, inside)];
    if !outside.is_empty() {
        slices.push((true, whole(outside)));
    }
    slices
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
#[expect(clippy::cast_precision_loss, reason = "a share of 2^32")]
fn as_bound(sum: f32) -> u32 {
    // A float is cut to what fits.
    (sum.min(1.0) * u32::MAX as f32) as u32
}
