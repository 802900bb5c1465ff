//! Health and reflection for the edge and every service behind it. Neither needs a key: they say no more than the
//! documentation does, and whether anyone is there.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::Stream;
use futures_util::stream;
use prost_reflect::DescriptorPool;
use tokio::sync::watch;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::HealthCheckResponse;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::health_server::HealthServer;

use crate::contract::Contracts;
use crate::protocols::Method;
use crate::protocols::Methods;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// How often a watched service is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long one watch lasts.
const WATCH_MAX: Duration = Duration::from_hours(1);

/// The methods of both.
static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let sets = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = sets.map(|set| DescriptorPool::decode(set).expect("the crates encoded them"));
    let services = pools.iter().flat_map(DescriptorPool::services);
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.collect::<Methods>().for_anyone()
});

/// Makes their table, so that no request waits for that.
pub(crate) fn load() {
    LazyLock::force(&METHODS);
}

/// The method with this gRPC path that the edge answers itself.
pub(crate) fn method(path: &str) -> Option<&'static Method> {
    METHODS.find(path)
}

/// The service that a gRPC path names, if it is answered here.
pub(crate) fn local_service(path: &str) -> Option<&'static str> {
    let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    [HEALTH, REFLECTION[0], REFLECTION[1]].into_iter().find(|local| *local == service)
}

/// Whether a gRPC path is health's.
pub(crate) fn is_health(path: &str) -> bool {
    local_service(path) == Some(HEALTH)
}

/// Health, by the contract that holds when it is asked for.
pub(crate) fn routes(
    mesh: mesh::Mesh,
    ready: watch::Receiver<bool>,
    contracts: Contracts,
) -> Routes {
    Routes::new(HealthServer::new(Backends { mesh, ready, contracts }))
}

/// Reflection of these services, whose descriptors are in an encoded set.
pub(crate) fn reflection(encoded: &[u8], services: &BTreeSet<String>) -> anyhow::Result<Routes> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(encoded)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(HEALTH);
        for name in services {
            builder = builder.with_service_name(name);
        }
        builder
    };
    let v1 = builder().with_service_name(REFLECTION[0]).build_v1().context("reflection v1")?;
    let v1alpha = builder().build_v1alpha().context("reflection v1alpha")?;
    Ok(Routes::new(v1).add_service(v1alpha))
}

/// Whether the edge, or a service behind it, has someone to answer.
#[derive(Debug, Clone)]
struct Backends {
    mesh: mesh::Mesh,
    ready: watch::Receiver<bool>,
    contracts: Contracts,
}

impl Backends {
    /// `None` for a service that is not public.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let serves = if service.is_empty() || service == HEALTH || REFLECTION.contains(&service) {
            *self.ready.borrow()
        } else if self.contracts.current().has_service(service) {
            let view = self.mesh.view();
            let mut endpoints = view.endpoints.iter();
            endpoints.any(|endpoint| endpoint.grpc_services.iter().any(|name| name == service))
        } else {
            return None;
        };
        Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Backends {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(rpc::Error::not_found(service.escape_debug()).into()),
        }
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let until = tokio::time::Instant::now() + WATCH_MAX;
        let start = (self.clone(), service, None);
        let changes = stream::unfold(start, move |(backends, service, last)| async move {
            loop {
                let status = backends.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) {
                    return Some((Ok(response(status)), (backends, service, Some(status))));
                }
                if tokio::time::Instant::now() >= until {
                    return None;
                }
                tokio::time::sleep(WATCH_EVERY).await;
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
