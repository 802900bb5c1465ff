//! All endpoints that a mesh knows: made and dropped as the registry says, connected as calls want, weighed by age, compared with
//! each other. The resolver owns it; calls see the endpoints alone.

use super::clock::Tick;
use super::endpoint::Endpoint;
use super::endpoint::EndpointKey;
use super::health::Counts;
use super::health::outliers;
use super::keeper;
use super::keeper::Means;
use super::peers::Bell;
use super::peers::Peers;
use super::table::Known;
use super::warm_up;
use super::warm_up::Age;
use crate::identity::ServiceName;
use crate::metrics::CallMetrics;
use crate::metrics::Incident;
use crate::policy::Policy;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the endpoints are compared with each other, at least: no more seconds than their counts keep.
pub(super) const EXAMINE_EVERY: Duration = Duration::from_secs(1);
/// The outlier sweep never takes more out of use than leaves this many.
const USED_MIN: usize = 1;

pub(super) struct Fleet {
    bell: Arc<Bell>,
    demands: mpsc::Receiver<Arc<Endpoint>>,
    means: Means,
    metrics: CallMetrics,
    endpoints: BTreeMap<EndpointKey, Kept>,
    /// By name.
    services: BTreeMap<String, Service>,
    keepers: JoinSet<()>,
}

struct Kept {
    endpoint: Arc<Endpoint>,
    gone: CancellationToken,
    weight_registered: u32,
    age: Age,
    /// The last second whose counts were compared.
    harvested: u32,
    record: outliers::Record,
}

struct Service {
    peers: Arc<Peers>,
    swept: Tick,
}

/// What could be told of an instance that has no endpoint.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) anyhow::Error);

impl Fleet {
    pub(super) fn new(means: Means, metrics: CallMetrics, now: Instant) -> Self {
        let (bell, demands) = Bell::new(now);
        Self {
            bell: Arc::new(bell),
            demands,
            means,
            metrics,
            endpoints: BTreeMap::new(),
            services: BTreeMap::new(),
            keepers: JoinSet::new(),
        }
    }

    pub(super) fn tick(&self, now: Instant) -> Tick {
        self.bell.clock.tick(now)
    }

    /// Takes over what the registry says of an instance; returns its endpoint, and whether it is new.
    ///
    /// # Errors
    /// If its service has no name that a certificate could have.
    pub(super) fn put(
        &mut self,
        known: &Known,
        policy: &Arc<Policy>,
        now: Instant,
        wall: Timestamp,
    ) -> Result<(Arc<Endpoint>, bool), Unusable> {
        let instance = &known.instance;
        let key = key_of(known);
        let service = self.services.entry(instance.service.clone()).or_insert_with(|| Service {
            peers: Arc::new(Peers::new(Arc::clone(policy), Arc::clone(&self.bell))),
            swept: self.bell.clock.tick(now),
        });
        service.peers.obey(policy);
        if let Some(kept) = self.endpoints.get_mut(&key) {
            kept.endpoint.set_draining(instance.draining);
            kept.weight_registered = instance.weight.max(1);
            if kept.age.is_of_another(instance.register_time) {
                kept.age = Age::new(known, now, wall);
            }
            return Ok((Arc::clone(&kept.endpoint), false));
        }
        let name = ServiceName::parse(&instance.service).map_err(Unusable)?;
        let metrics = self.metrics.between(self.means.identity.service(), name.as_str());
        let peers = Arc::clone(&service.peers);
        let endpoint = Arc::new(Endpoint::new(instance, name, metrics, peers, now));
        let kept = Kept {
            endpoint: Arc::clone(&endpoint),
            gone: CancellationToken::new(),
            weight_registered: instance.weight.max(1),
            age: Age::new(known, now, wall),
            harvested: self.bell.clock.tick(now).second(),
            record: outliers::Record::default(),
        };
        self.endpoints.insert(key, kept);
        Ok((endpoint, true))
    }

    /// Lets go of all others.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<EndpointKey>) {
        self.endpoints.retain(|key, kept| {
            let keep = wanted.contains(key);
            if !keep {
                kept.gone.cancel();
            }
            keep
        });
    }

    /// The instances have just shown that they are there.
    pub(super) fn hurry(&self, instances: &BTreeSet<String>) {
        for Kept { endpoint, .. } in self.endpoints.values() {
            if instances.contains(&endpoint.instance) {
                endpoint.hurry();
            }
        }
    }

    pub(super) fn get(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(key).map(|kept| &kept.endpoint)
    }

    /// Does what endpoints need until something about them changes. Cancel-safe.
    pub(super) async fn tend(&mut self) {
        loop {
            tokio::select! {
                () = self.bell.rung() => return,
                Some(endpoint) = self.demands.recv() => self.connect(&endpoint),
                Some(_) = self.keepers.join_next() => {}
            }
        }
    }

    fn connect(&mut self, endpoint: &Arc<Endpoint>) {
        // It may have left since.
        let Some(kept) = self.endpoints.get(&endpoint.key()) else { return };
        if !Arc::ptr_eq(&kept.endpoint, endpoint) {
            return;
        }
        let keep = keeper::keep(Arc::clone(endpoint), self.means.clone(), kept.gone.clone());
        self.keepers.spawn(keep);
    }

    /// Gives each endpoint the weight of its age; returns whether some will have another one soon.
    pub(super) fn weigh(&mut self, now: Instant) -> bool {
        let mut warming = false;
        for kept in self.endpoints.values() {
            let warm_up = kept.endpoint.peers.policy.load().balancing.warm_up;
            let share = warm_up::share(kept.age.at(now), warm_up);
            warming |= share < 1.0;
            kept.endpoint.set_weight(kept.weight_registered, share);
        }
        warming
    }

    /// Compares the endpoints of each service; returns whether that changed which of them are used.
    pub(super) fn examine(&mut self, now: Instant) -> bool {
        let tick = self.bell.clock.tick(now);
        let mut by_service: BTreeMap<&str, Vec<&mut Kept>> = BTreeMap::new();
        for (key, kept) in &mut self.endpoints {
            by_service.entry(&key.0).or_default().push(kept);
        }
        let mut changed = false;
        for (name, mut members) in by_service {
            let service = self.services.get_mut(name).expect("its endpoints' service is known");
            usual_latency(&service.peers, &members);
            others_failures(&members, tick);
            // Refusals change no standing, and yet let calls spill over to the next zone.
            changed |=
                members.iter().any(|kept| kept.endpoint.health.last_second(tick).failures > 0);
            changed |= service.sweep(&mut members, tick);
        }
        changed
    }

    /// Ends all connections.
    pub(super) async fn shutdown(&mut self) {
        self.keepers.shutdown().await;
    }
}

impl Service {
    /// The comparison of gRFC A50, when its time has come; returns whether anyone is in or out of use since.
    fn sweep(&mut self, members: &mut [&mut Kept], now: Tick) -> bool {
        let policy = self.peers.policy.load();
        let health = &policy.health;
        for kept in members.iter_mut() {
            let counts = kept.endpoint.health.harvest(&mut kept.harvested, now);
            kept.record.counts.add(counts);
        }
        let Some(outliers) = &health.outliers else {
            return members.iter().filter(|kept| kept.endpoint.health.readmit()).count() > 0;
        };
        if u128::from(now.since(self.swept)) < outliers.interval.as_millis() {
            return false;
        }
        self.swept = now;
        let unusable =
            |kept: &&&mut Kept| !kept.record.is_ejected() && !kept.endpoint.can_be_used(now);
        let panic_min = (members.len() * health.panic_percent as usize).div_ceil(100);
        let limits = outliers::Limits {
            ejected_percent_max: health.ejected_percent_max,
            used_min: panic_min.max(USED_MIN),
            unusable: members.iter().filter(unusable).count(),
        };
        let mut records: Vec<_> = members.iter_mut().map(|kept| &mut kept.record).collect();
        outliers::sweep(&mut records, outliers, limits, now);
        let mut changed = false;
        for Kept { endpoint, record, .. } in members.iter() {
            match record.ejected_until(outliers) {
                Some(until) if endpoint.health.eject(until) => {
                    endpoint.metrics.befell(Incident::Ejected);
                    changed = true;
                }
                Some(_) => {}
                None => changed |= endpoint.health.readmit(),
            }
        }
        changed
    }
}

/// What a response takes at those that were called, for one that was not yet.
fn usual_latency(peers: &Peers, members: &[&mut Kept]) {
    let measured = members.iter().filter_map(|kept| kept.endpoint.load.latency());
    let (sum, count) =
        measured.fold((Duration::ZERO, 0), |(sum, count), latency| (sum + latency, count + 1));
    if count > 0 {
        peers.set_latency(sum / count);
    }
}

/// Tells each endpoint which share of the others' calls failed.
fn others_failures(members: &[&mut Kept], now: Tick) {
    let each: Vec<Counts> =
        members.iter().map(|kept| kept.endpoint.health.recent_with_sheds(now)).collect();
    let mut all = Counts::default();
    each.iter().for_each(|counts| all.add(*counts));
    for (kept, counts) in members.iter().zip(each) {
        kept.endpoint.health.set_others_failed(all.without(counts).failed());
    }
}

pub(super) fn key_of(known: &Known) -> EndpointKey {
    let instance = &known.instance;
    (instance.service.clone(), instance.instance.clone(), instance.address.clone())
}
