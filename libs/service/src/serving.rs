//! What every service's listener serves besides its own gRPC services: health, reflection (v1 and v1alpha), `MeshService`.

use anyhow::Context as _;
use proto::mesh::v1::identity_service_server;
use proto::mesh::v1::identity_service_server::IdentityServiceServer;
use proto::mesh::v1::mesh_service_server;
use proto::mesh::v1::mesh_service_server::MeshServiceServer;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_health::server::HealthService;

use crate::calls::CallsLayer;
use crate::identity_service::IdentityView;
use crate::mesh_service::MeshNode;
use crate::metrics::HttpMetrics;
use crate::metrics::MetricsRegistry;

/// The gRPC services that every instance registers in the mesh, besides its own.
pub(crate) const SHARED_GRPC_SERVICE: &str = mesh_service_server::SERVICE_NAME;

/// What a service is served with.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) routes: Routes,
    pub(crate) health: Health,
}

/// Adds what every listener has to a service's own routes.
pub(crate) fn serving(
    service: &'static str,
    routes: Routes,
    grpc_services: &[&'static str],
    node: MeshNode,
    metrics: &MetricsRegistry,
) -> anyhow::Result<Serving> {
    let health = Health::new(grpc_services);
    let identity = node.0.identity.clone();
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(health_server::SERVICE_NAME)
            .with_service_name(SHARED_GRPC_SERVICE)
            .with_service_name(identity_service_server::SERVICE_NAME);
        grpc_services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = reflection().build_v1().context("the descriptors are inconsistent")?;
    let v1alpha = reflection().build_v1alpha().context("the descriptors are inconsistent")?;
    let watched = CallsLayer { service, metrics: HttpMetrics::register(&mut metrics.lock()) };
    let router = routes
        .add_service(HealthServer::new(HealthService::from_health_reporter(
            health.reporter.clone(),
        )))
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(MeshServiceServer::new(node))
        .add_service(IdentityServiceServer::new(IdentityView { identity }))
        .into_axum_router()
        .layer(watched);
    Ok(Serving { routes: Routes::from(router).prepare(), health })
}

/// What `grpc.health.v1.Health` answers for a listener: for each of its gRPC services, and for the whole under "".
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Health {
    fn new(grpc_services: &[&'static str]) -> Health {
        let names = grpc_services.iter().copied().chain([""]).collect();
        Health { reporter: HealthReporter::new(), names }
    }

    pub(crate) async fn set(&self, is_serving: bool) {
        let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
