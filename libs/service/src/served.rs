//! One service while it runs: its listener, its place in the registry, its tasks; and how it stops.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::assembly::Assembly;
use crate::assembly::Context;
use crate::host::Role;
use crate::readiness::Conditions;
use crate::serving;
use crate::serving::Health;
use crate::serving::SHARED_GRPC_SERVICE;
use crate::supervisor::Failures;
use crate::supervisor::Running;

/// How much longer than its own deadline for calls in flight a listener may take to stop.
const LISTENER_GRACE: Duration = Duration::from_secs(1);

/// A service that has said what it is made of.
pub(crate) struct Assembled {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) listen: SocketAddr,
    pub(crate) context: Context,
    pub(crate) identity: mesh::Identity,
    pub(crate) assembly: Assembly,
}

/// A service that runs.
pub(crate) struct Served {
    name: &'static str,
    pub(crate) role: Role,
    mesh: mesh::Mesh,
    health: Health,
    listener: Running,
    tasks: VecDeque<Running>,
    announcer: Announcer,
    lease: Option<Box<dyn mesh::registry::Lease>>,
}

impl Served {
    /// Serves on `listener`, starts the tasks, and registers under `address` as soon as the service is ready.
    pub(crate) async fn start(
        service: Assembled,
        listener: TcpListener,
        address: SocketAddr,
        drain_max: Duration,
        registry: Arc<dyn mesh::Registry>,
        failures: Failures,
    ) -> anyhow::Result<Served> {
        let Assembled { name, role, context, identity, assembly, .. } = service;
        let Assembly { routes, grpc_services, access, tasks, ready } = assembly;
        let mesh = context.mesh.clone();
        let serving =
            serving::serving(name, routes, &grpc_services, mesh.clone(), &context.metrics)?;
        serving.health.set(false).await;

        let options = mesh::ServerOptions { instance: context.instance.clone(), identity, access };
        let server = mesh::Server::new(options, &mut context.metrics.lock())?;
        let server = server.with_policy(mesh.policy());
        let stop = CancellationToken::new();
        let serve = server.serve(listener, serving.routes, stop.clone(), drain_max);
        let listener = Running::supervise(
            name,
            "mesh listener",
            drain_max + LISTENER_GRACE,
            stop,
            async {
                serve.await;
                Ok(())
            },
            failures.clone(),
        );
        let tasks =
            tasks.into_iter().map(|task| Running::start(name, task, failures.clone())).collect();

        let own = grpc_services.iter().copied();
        let registration = mesh::Registration {
            instance: context.instance,
            service: name.to_owned(),
            address: address.to_string(),
            zone: context.zone,
            region: context.region,
            version: context.version,
            weight: mesh::registry::WEIGHT_DEFAULT,
            grpc_services: own.chain([SHARED_GRPC_SERVICE]).map(str::to_owned).collect(),
        };
        let announcer = Announcer::start(
            Conditions::new(ready),
            serving.health.clone(),
            registry,
            registration,
        );
        let health = serving.health;
        Ok(Served { name, role, mesh, health, listener, tasks, announcer, lease: None })
    }

    /// Cancels and joins the tasks, one after the other.
    pub(crate) async fn stop_tasks(&mut self) {
        while let Some(task) = self.tasks.pop_front() {
            task.stop().await;
        }
    }

    /// Tells the registry that the instance is leaving; false if it was never registered.
    pub(crate) async fn leave(&mut self) -> bool {
        self.lease = self.announcer.stop().await;
        let Some(lease) = &mut self.lease else { return false };
        lease.drain().await;
        true
    }

    /// Stops what is left, after watchers had time to notice.
    pub(crate) async fn stop(mut self) {
        let name = self.name;
        if let Some(lease) = self.lease.take() {
            lease.withdraw().await;
        }
        self.health.set(false).await;
        self.listener.stop().await;
        while let Some(task) = self.tasks.pop_front() {
            task.stop().await;
        }
        self.mesh.close().await;
        tracing::info!(service = name, "a service stopped");
    }
}

/// Keeps health in step with the conditions, and registers the instance when they first hold.
struct Announcer {
    stop: CancellationToken,
    handle: Option<JoinHandle<Option<Box<dyn mesh::registry::Lease>>>>,
}

impl Announcer {
    fn start(
        mut conditions: Conditions,
        health: Health,
        registry: Arc<dyn mesh::Registry>,
        registration: mesh::Registration,
    ) -> Announcer {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = registration.service.clone();
        let announce = async move {
            let mut lease = None;
            let mut registration = Some(registration);
            loop {
                let is_ready = conditions.missing().next().is_none();
                health.set(is_ready).await;
                if is_ready && let Some(registration) = registration.take() {
                    let (instance, address) = (&registration.instance, &registration.address);
                    tracing::info!(instance, address, "serving");
                    lease = Some(registry.register(registration));
                }
                tokio::select! {
                    () = stopped.cancelled() => return lease,
                    () = conditions.changed() => {}
                }
            }
        };
        let span = tracing::info_span!("announce", service);
        #[expect(clippy::disallowed_methods, reason = "the service owns the handle and joins it")]
        let handle = tokio::spawn(announce.instrument(span));
        Announcer { stop, handle: Some(handle) }
    }

    /// Ends it; the lease, if the instance was registered.
    async fn stop(&mut self) -> Option<Box<dyn mesh::registry::Lease>> {
        self.stop.cancel();
        let handle = self.handle.take()?;
        // It can't panic: nothing in it asserts. If it did, the registration runs out by itself.
        handle.await.ok().flatten()
    }
}
