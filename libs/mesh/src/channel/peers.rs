//! What the endpoints of a service have in common, and the bell by which endpoints tell the resolver of themselves.

use super::clock::Clock;
use super::endpoint::Endpoint;
use super::load::LATENCY_DEFAULT;
use crate::policy::Policy;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::mpsc;

/// Of how many endpoints the resolver may not have heard yet that they are wanted; those above ask again with the next call.
const DEMANDS_MAX: usize = 1_024;

/// The endpoints of one service have this in common.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) policy: ArcSwap<Policy>,
    /// What a response takes here of late, an `f32`'s bits of seconds.
    latency: AtomicU32,
    pub(super) bell: Arc<Bell>,
}

/// By which endpoints tell the resolver that something about them changed.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) clock: Clock,
    changed: Notify,
    demands: mpsc::Sender<Arc<Endpoint>>,
}

impl Bell {
    /// The bell, and where endpoints come out that are wanted for the first time.
    pub(super) fn new(now: Instant) -> (Self, mpsc::Receiver<Arc<Endpoint>>) {
        let (demands, wanted) = mpsc::channel(DEMANDS_MAX);
        (Self { clock: Clock::new(now), changed: Notify::new(), demands }, wanted)
    }

    /// Some endpoint is usable that was not, or the other way round.
    pub(super) fn ring(&self) {
        self.changed.notify_one();
    }

    /// Has the resolver see to it that an endpoint is connected; false if too many are waiting for that.
    pub(super) fn demand(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.demands.try_send(Arc::clone(endpoint)).is_ok()
    }

    /// Waits until something changed since this was last awaited.
    pub(super) async fn rung(&self) {
        self.changed.notified().await;
    }
}

impl Peers {
    pub(super) fn new(policy: Arc<Policy>, bell: Arc<Bell>) -> Self {
        let latency = AtomicU32::new(LATENCY_DEFAULT.as_secs_f32().to_bits());
        Self { policy: ArcSwap::new(policy), latency, bell }
    }

    /// Takes over a policy.
    pub(super) fn obey(&self, policy: &Arc<Policy>) {
        if !Arc::ptr_eq(&self.policy.load(), policy) {
            self.policy.store(Arc::clone(policy));
        }
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.latency.store(latency.as_secs_f32().to_bits(), Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_secs_f32(f32::from_bits(self.latency.load(Ordering::Relaxed)))
    }
}
