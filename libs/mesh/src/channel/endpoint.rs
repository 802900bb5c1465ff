//! One instance as a target: its connections and how it fares.
//!
//! It lives from snapshot to snapshot of the mesh, for as long as the same instance is at the same address. Until someone wants to
//! call it, it is these few words and nothing runs for it.

use super::EndpointState;
use super::clock::Tick;
use super::connection::Connection;
use super::connection::Peer;
use super::connection::Stream;
use super::health::Health;
use super::health::Standing;
use super::health::Verdict;
use super::load::Load;
use super::peers::Peers;
use crate::identity::ServiceName;
use crate::metrics::Incident;
use crate::metrics::PairMetrics;
use crate::registry::Instance;
use crate::registry::WEIGHT_DEFAULT;
use arc_swap::ArcSwap;
use http::uri::Authority;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;

/// Service, instance and address: another process has another key.
pub(super) type EndpointKey = (String, String, String);

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) service: ServiceName,
    pub(super) instance: String,
    pub(super) address: String,
    /// What requests name as their authority.
    pub(super) authority: Authority,
    pub(super) load: Load,
    pub(super) health: Health,
    pub(super) metrics: Arc<PairMetrics>,
    /// What all endpoints of its service share.
    pub(super) peers: Arc<Peers>,
    weight_registered: AtomicU32,
    /// By how much more a call in flight counts than at one of the default weight, an `f32`'s bits.
    slowness: AtomicU32,
    draining: AtomicBool,
    connections: ArcSwap<Vec<Arc<Connection>>>,
    /// Someone wants to call it: until then no connection is opened.
    wanted: AtomicBool,
    /// The last attempt to connect failed.
    unreachable: AtomicBool,
    /// Nearly all streams are in use: one connection more, please.
    crowded: AtomicBool,
    /// How often it asked for fewer pings.
    pub(super) calm: AtomicU32,
    wake: Notify,
    hurry: Notify,
}

/// Whether a call can be sent.
#[derive(Debug)]
pub(super) enum Reserved {
    Stream(Stream),
    /// There is no connection.
    Unconnected,
    /// All streams are in use.
    Full,
}

impl Endpoint {
    pub(super) fn new(
        instance: &Instance,
        service: ServiceName,
        metrics: Arc<PairMetrics>,
        peers: Arc<Peers>,
        now: Instant,
    ) -> Self {
        let authority = service.dns_name().parse().expect("a service's name is a DNS label");
        Self {
            service,
            instance: instance.instance.clone(),
            address: instance.address.clone(),
            authority,
            load: Load::new(peers.bell.clock.tick(now)),
            health: Health::default(),
            metrics,
            peers,
            weight_registered: AtomicU32::new(WEIGHT_DEFAULT),
            slowness: AtomicU32::new(1.0_f32.to_bits()),
            draining: AtomicBool::new(instance.draining),
            connections: ArcSwap::default(),
            wanted: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            calm: AtomicU32::new(0),
            wake: Notify::new(),
            hurry: Notify::new(),
        }
    }

    /// Where its connections lead.
    pub(super) fn peer(self: &Arc<Self>) -> Peer<'_> {
        Peer { address: &self.address, service: &self.service, endpoint: Some(self) }
    }

    pub(super) fn key(&self) -> EndpointKey {
        (self.service.as_str().to_owned(), self.instance.clone(), self.address.clone())
    }

    pub(super) fn tick(&self, now: Instant) -> Tick {
        self.peers.bell.clock.tick(now)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Its share of the traffic that is in force.
    pub(super) fn weight(&self) -> f32 {
        as_float(WEIGHT_DEFAULT) / f32::from_bits(self.slowness.load(Ordering::Relaxed))
    }

    /// Its share as the registry says.
    pub(super) fn weight_registered(&self) -> f32 {
        as_float(self.weight_registered.load(Ordering::Relaxed))
    }

    /// Gives it a part of its weight.
    pub(super) fn set_weight(&self, registered: u32, part: f32) {
        assert!(registered > 0 && part > 0.0, "everyone has a share");
        self.weight_registered.store(registered, Ordering::Relaxed);
        let slowness = as_float(WEIGHT_DEFAULT) / (as_float(registered) * part);
        self.slowness.store(slowness.to_bits(), Ordering::Relaxed);
    }

    /// Whether its weight is not all in force yet.
    pub(super) fn is_warming(&self) -> bool {
        self.weight() < self.weight_registered() * 0.999
    }

    /// Whether it is healthy as far as is known.
    pub(super) fn can_be_used(&self, now: Tick) -> bool {
        self.standing(now) == Standing::Healthy && !self.is_unreachable()
    }

    /// How it fares, for people.
    pub(super) fn state(&self, now: Tick) -> EndpointState {
        if self.is_draining() {
            return EndpointState::Draining;
        }
        match self.standing(now) {
            Standing::Unhealthy(left) => EndpointState::Unhealthy { left },
            Standing::Ejected(left) => EndpointState::Ejected { left },
            Standing::Healthy if self.is_connected() && self.is_warming() => EndpointState::Warming,
            Standing::Healthy if self.is_connected() => EndpointState::Ready,
            Standing::Healthy if self.is_wanted() => EndpointState::Connecting,
            Standing::Healthy => EndpointState::Idle,
        }
    }

    /// What one call more would cost here, relative to other endpoints.
    pub(super) fn cost(&self, now: Tick) -> f32 {
        self.load.cost(f32::from_bits(self.slowness.load(Ordering::Relaxed)), now)
    }

    /// The calls in flight, by weight; those that fail look busy.
    pub(super) fn busyness(&self, now: Tick) -> f32 {
        self.load.busyness(f32::from_bits(self.slowness.load(Ordering::Relaxed)), now)
    }

    /// How a call ended.
    pub(super) fn ended(&self, verdict: Verdict, pushback: Option<Duration>, now: Tick) {
        let policy = &self.peers.policy;
        let changed = match verdict {
            Verdict::Good => {
                self.load.succeeded();
                self.health.succeeded(policy, now)
            }
            Verdict::Failed => self.health.failed(policy, now),
            Verdict::Shed => {
                self.health.shed(now);
                false
            }
        };
        if changed {
            self.metrics.befell(Incident::BreakerTripped);
        }
        if verdict != Verdict::Good || pushback.is_some() {
            // A server that says for how long it wants no calls is believed.
            let share = if pushback.is_some() { 1.0 } else { self.health.excess(now) };
            self.load.punish(share, pushback, now);
        }
        if changed {
            self.peers.bell.ring();
        }
    }

    /// How the one call of a probation went; none if nobody knows.
    pub(super) fn probed(&self, verdict: Option<Verdict>, now: Tick) {
        self.health.probed(verdict, &self.peers.policy, now);
        if verdict == Some(Verdict::Good) {
            self.load.forgive();
        }
        self.peers.bell.ring();
    }

    pub(super) fn standing(&self, now: Tick) -> Standing {
        self.health.standing(now)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connections.load().iter().any(|connection| connection.is_usable())
    }

    /// Whether it can't be reached, as far as is known.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed) && !self.is_connected()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Reserves a stream on the connection that has the most room.
    pub(super) fn reserve(&self) -> Reserved {
        let connections = self.connections.load();
        let usable = connections.iter().filter(|connection| connection.is_usable());
        let Some(roomiest) = usable.min_by_key(|connection| connection.open_streams()) else {
            return Reserved::Unconnected;
        };
        let reserved = roomiest.reserve();
        if roomiest.is_crowded()
            && !self.crowded.load(Ordering::Relaxed)
            && connections.len() < self.peers.policy.load().connections.per_instance_max
            && !self.crowded.swap(true, Ordering::Relaxed)
        {
            self.wake.notify_one();
        }
        reserved.map_or(Reserved::Full, Reserved::Stream)
    }

    /// Asks for a connection.
    pub(super) fn want(self: &Arc<Self>) {
        if self.wanted.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        } else if !self.peers.bell.demand(self) {
            self.wanted.store(false, Ordering::Relaxed);
        }
    }

    /// Nobody wants to call it any more.
    pub(super) fn unwant(&self) {
        self.wanted.store(false, Ordering::Relaxed);
        self.unreachable.store(false, Ordering::Relaxed);
        self.peers.bell.ring();
    }

    /// Something about its connections changed, which its keeper should know.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until the endpoint needs its keeper.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The instance has just shown that it is there: no use in waiting longer before connecting again.
    pub(super) fn hurry(&self) {
        // Kept for a keeper that is still trying: it would wait a minute after that attempt.
        self.hurry.notify_one();
    }

    /// Waits until connecting again is worth a try before its time.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// How many connections there should be.
    pub(super) fn connections_wanted(&self) -> usize {
        let usable = self.connections.load().len();
        let more = usize::from(self.crowded.load(Ordering::Relaxed));
        (usable + more).clamp(1, self.peers.policy.load().connections.per_instance_max)
    }

    /// The connections; the endpoint's keeper alone changes them, so no other writer is lost.
    pub(super) fn connections(&self) -> Arc<Vec<Arc<Connection>>> {
        self.connections.load_full()
    }

    /// Drops the connections that are of no more use, and says how many are left.
    pub(super) fn sweep(&self) -> usize {
        let before = self.connections.load_full();
        let usable: Vec<_> =
            before.iter().filter(|connection| connection.is_usable()).cloned().collect();
        let left = usable.len();
        if left < before.len() {
            self.connections.store(Arc::new(usable));
            self.peers.bell.ring();
        }
        left
    }

    /// Adds a connection.
    pub(super) fn connected(&self, connection: Arc<Connection>, now: Instant) {
        let mut connections = Vec::clone(&self.connections.load_full());
        let tick = self.tick(now);
        if connections.is_empty() && !self.health.fails_always(tick) {
            // It may be another process than before; what is known of that one would mislead.
            self.load.reset(self.peers.latency(), tick);
            self.health.reset(tick);
        }
        connections.push(connection);
        self.connections.store(Arc::new(connections));
        self.crowded.store(false, Ordering::Relaxed);
        self.unreachable.store(false, Ordering::Relaxed);
        self.peers.bell.ring();
    }

    /// An attempt to connect failed.
    pub(super) fn unconnected(&self) {
        // With others open there is no need for one more soon.
        self.crowded.store(false, Ordering::Relaxed);
        if !self.unreachable.swap(true, Ordering::Relaxed) {
            self.peers.bell.ring();
        }
    }

    /// Drops all connections; each closes when its last call has ended.
    pub(super) fn disconnect(&self) {
        self.connections.store(Arc::default());
    }

    /// How many connections can be used.
    pub(super) fn connection_count(&self) -> usize {
        self.connections.load().iter().filter(|connection| connection.is_usable()).count()
    }

    /// A connection, if there is one.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connections.load().iter().find(|connection| connection.is_usable()).cloned()
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights are at most 10,000")]
fn as_float(weight: u32) -> f32 {
    weight as f32
}
