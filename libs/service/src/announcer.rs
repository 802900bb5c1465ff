//! What the registry and health say of one instance: it is announced when it is ready, and an operator may take it out of rotation
//! and put it back.

use std::sync::Arc;

use mesh::registry::Lease;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::readiness::Conditions;
use crate::serving::Health;

/// How many operators' requests wait at most; each takes a second at the longest.
const REQUESTS_MAX: usize = 8;

/// Keeps health in step with the conditions, registers the instance when they first hold, and does what operators ask.
pub(crate) struct Announcer {
    stop: CancellationToken,
    handle: Option<JoinHandle<Option<Box<dyn Lease>>>>,
}

/// By which operators take an instance out of rotation and put it back. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    requests: mpsc::Sender<Request>,
}

/// What operators may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Drain,
    Undrain,
    /// Only to know how it stands.
    Look,
}

/// Whether others can find the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it was taken out of rotation.
    pub(crate) drained: bool,
    /// Whether the registry has it.
    pub(crate) reached: bool,
}

#[derive(Debug)]
struct Request {
    wish: Wish,
    answer: oneshot::Sender<Option<Standing>>,
}

/// Where requests come out.
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Rotation {
    /// A way to ask, and where the announcer hears it.
    pub(crate) fn new() -> (Rotation, Requests) {
        let (requests, heard) = mpsc::channel(REQUESTS_MAX);
        (Rotation { requests }, Requests(heard))
    }

    /// Does what is wished, and says how the instance stands then; none if it is not registered (it starts, or stops).
    pub(crate) async fn ask(&self, wish: Wish) -> Option<Standing> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { wish, answer }).await.ok()?;
        answered.await.ok()?
    }
}

/// An instance's registration, once it has one.
#[derive(Default)]
struct Place {
    lease: Option<Box<dyn Lease>>,
    drained: bool,
}

impl Place {
    async fn take(&mut self, request: Request) {
        let standing = self.grant(request.wish).await;
        // Whoever asked may have left.
        request.answer.send(standing).ok();
    }

    async fn grant(&mut self, wish: Wish) -> Option<Standing> {
        let lease = self.lease.as_mut()?;
        let reached = match wish {
            Wish::Look => lease.is_reached(),
            Wish::Drain => {
                self.drained = true;
                lease.drain().await
            }
            Wish::Undrain => {
                self.drained = false;
                lease.undrain().await
            }
        };
        Some(Standing { drained: self.drained, reached })
    }
}

impl Announcer {
    pub(crate) fn start(
        mut conditions: Conditions,
        health: Health,
        registry: Arc<dyn mesh::Registry>,
        registration: mesh::Registration,
        Requests(mut requests): Requests,
    ) -> Announcer {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = registration.service.clone();
        let announce = async move {
            let mut place = Place::default();
            let mut registration = Some(registration);
            loop {
                let is_ready = conditions.missing().next().is_none();
                health.set(is_ready).await;
                if is_ready && let Some(registration) = registration.take() {
                    let (instance, address) = (&registration.instance, &registration.address);
                    tracing::info!(instance, address, "serving");
                    place.lease = Some(registry.register(registration));
                }
                tokio::select! {
                    () = stopped.cancelled() => return place.lease,
                    () = conditions.changed() => {}
                    Some(request) = requests.recv() => {
                        tracing::info!(wish = ?request.wish, "an operator asks");
                        place.take(request).await;
                    }
                }
            }
        };
        let span = tracing::info_span!("announce", service);
        #[expect(clippy::disallowed_methods, reason = "the service owns the handle and joins it")]
        let handle = tokio::spawn(announce.instrument(span));
        Announcer { stop, handle: Some(handle) }
    }

    /// Ends it; the lease, if the instance was registered.
    pub(crate) async fn stop(&mut self) -> Option<Box<dyn Lease>> {
        self.stop.cancel();
        let handle = self.handle.take()?;
        // It can't panic: nothing in it asserts. If it did, the registration runs out by itself.
        handle.await.ok().flatten()
    }
}
