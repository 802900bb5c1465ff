//! One instance as a target: its connections and how it fares.
//!
//! It lives from snapshot to snapshot of the mesh, for as long as the same instance is at the same address.

use super::EndpointState;
use super::connection::Connection;
use super::connection::Stream;
use super::load::Load;
use crate::identity::ServiceName;
use crate::metrics::PairMetrics;
use crate::registry::Instance;
use crate::registry::WEIGHT_DEFAULT;
use arc_swap::ArcSwap;
use http::uri::Authority;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::Notify;

/// How many connections an endpoint has at most; further ones are opened when the streams of those before are used up.
pub(super) const CONNECTIONS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) service: ServiceName,
    pub(super) instance: String,
    pub(super) address: String,
    /// What requests name as their authority.
    pub(super) authority: Authority,
    pub(super) load: Load,
    pub(super) metrics: Arc<PairMetrics>,
    weight: AtomicU32,
    draining: AtomicBool,
    connections: ArcSwap<Vec<Arc<Connection>>>,
    /// Someone wants to call it: until then no connection is opened.
    wanted: AtomicBool,
    /// All streams are in use: one connection more, please.
    crowded: AtomicBool,
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
        now: Instant,
    ) -> Self {
        let authority = service.dns_name().parse().expect("a service's name is a DNS label");
        let endpoint = Self {
            service,
            instance: instance.instance.clone(),
            address: instance.address.clone(),
            authority,
            load: Load::new(now),
            metrics,
            weight: AtomicU32::new(WEIGHT_DEFAULT),
            draining: AtomicBool::new(false),
            connections: ArcSwap::default(),
            wanted: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            wake: Notify::new(),
            hurry: Notify::new(),
        };
        endpoint.update(instance);
        endpoint
    }

    /// Takes over what the registry may change while the instance stays the same.
    pub(super) fn update(&self, instance: &Instance) {
        self.weight.store(instance.weight.max(1), Ordering::Relaxed);
        self.draining.store(instance.draining, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What one call more would cost here, relative to other endpoints.
    #[expect(clippy::cast_precision_loss, reason = "weights are at most 10,000")]
    pub(super) fn cost(&self, now: Instant) -> f32 {
        self.load.cost(now) / self.weight.load(Ordering::Relaxed) as f32
    }

    /// Whether a connection is there; if none is, one is asked for.
    pub(super) fn is_ready(&self) -> bool {
        let ready = self.connections.load().iter().any(|connection| connection.is_usable());
        if !ready {
            self.want();
        }
        ready
    }

    /// Reserves a stream on the connection that has the most room.
    pub(super) fn reserve(&self) -> Reserved {
        let connections = self.connections.load();
        let usable = connections.iter().filter(|connection| connection.is_usable());
        let Some(roomiest) = usable.min_by_key(|connection| connection.open_streams()) else {
            self.want();
            return Reserved::Unconnected;
        };
        if let Some(stream) = roomiest.reserve() {
            return Reserved::Stream(stream);
        }
        if connections.len() < CONNECTIONS_MAX && !self.crowded.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
        Reserved::Full
    }

    /// Asks for a connection.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits until the endpoint needs its keeper.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The instance has just shown that it is there: no use in waiting longer before connecting again.
    pub(super) fn hurry(&self) {
        self.hurry.notify_waiters();
    }

    /// Waits until connecting again is worth a try before its time.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// How many connections there should be.
    pub(super) fn connections_wanted(&self) -> usize {
        if !self.wanted.load(Ordering::Relaxed) {
            return 0;
        }
        let usable = self.connections.load().len();
        let more = usize::from(self.crowded.load(Ordering::Relaxed));
        (usable + more).clamp(1, CONNECTIONS_MAX)
    }

    /// Drops the connections that are of no more use, and says how many are left.
    pub(super) fn sweep(&self) -> usize {
        let before = self.connections.load_full();
        let usable: Vec<_> =
            before.iter().filter(|connection| connection.is_usable()).cloned().collect();
        let left = usable.len();
        if left < before.len() {
            self.connections.store(Arc::new(usable));
        }
        left
    }

    /// Adds a connection. Only the endpoint's keeper does, so no other writer is lost.
    pub(super) fn connected(&self, connection: Connection, now: Instant) {
        let mut connections = Vec::clone(&self.connections.load_full());
        if connections.is_empty() {
            self.load.reset(now);
        }
        connections.push(Arc::new(connection));
        self.connections.store(Arc::new(connections));
        self.crowded.store(false, Ordering::Relaxed);
    }

    /// Drops all connections; each closes when its last call has ended.
    pub(super) fn disconnect(&self) {
        self.connections.store(Arc::default());
    }

    /// How many connections can be used.
    pub(super) fn connection_count(&self) -> usize {
        self.connections.load().iter().filter(|connection| connection.is_usable()).count()
    }

    /// How it fares, for people.
    pub(super) fn state(&self) -> EndpointState {
        if self.is_draining() {
            EndpointState::Draining
        } else if self.connection_count() > 0 {
            EndpointState::Ready
        } else if self.wanted.load(Ordering::Relaxed) {
            EndpointState::Connecting
        } else {
            EndpointState::Idle
        }
    }

    /// A connection, if there is one.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connections.load().iter().find(|connection| connection.is_usable()).cloned()
    }
}
