//! One service while it runs: its listener, its place in the registry, its tasks; and how it stops.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::announcer::Announcer;
use crate::announcer::Rotation;
use crate::assembly::Assembly;
use crate::assembly::Context;
use crate::assembly::Task;
use crate::host::Role;
use crate::mesh_service::MeshNode;
use crate::mesh_service::Node;
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
    pub(crate) issuing: mesh::identity::Issuing,
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
        let Assembled { name, role, context, identity, issuing, assembly, .. } = service;
        let Assembly { routes, grpc_services, access, tasks, ready } = assembly;
        let mesh = context.mesh.clone();
        let instance = context.instance.clone();
        let options = mesh::ServerOptions { instance, identity: identity.clone(), access };
        let server = mesh::Server::new(options, &mut context.metrics.lock())?;
        let server = server.with_policy(mesh.policy());
        let stop = CancellationToken::new();
        let (owned, channel) = (identity.clone(), mesh.clone());
        let renewal = Task::new("certificate", move |stop| issuing.renew(owned, channel, stop));
        let (rotation, requests) = Rotation::new();
        let node = MeshNode(Arc::new(Node {
            instance: context.instance.clone(),
            version: context.version.clone(),
            started: Instant::now(),
            identity,
            mesh: mesh.clone(),
            answered: server.stats(),
            taps: server.taps(),
            registry: Arc::clone(&registry),
            rotation,
            stop: stop.clone(),
        }));
        let serving = serving::serving(name, routes, &grpc_services, node, &context.metrics)?;
        serving.health.set(false).await;

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
        // The last to stop: whatever else runs makes calls.
        let tasks = tasks.into_iter().chain([renewal]);
        let tasks = tasks.map(|task| Running::start(name, task, failures.clone())).collect();

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
            requests,
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
