//! Control: what the mesh as a whole is told. It issues certificates and takes policies.
//!
//! It keeps nothing but what is in the registry, so any instance answers any call; and nothing waits for it while a call
//! is made: without control the mesh goes on with what it was told last.

mod config;
mod policies;

use proto::mesh::v1::policy_service_server;
use proto::mesh::v1::policy_service_server::PolicyServiceServer;
use service::Assembly;
use service::Context;

pub use config::Config;

/// The service's name: of its identity and its configuration section.
pub const NAME: &str = "control";

/// Opens what the service needs. The registry may be away.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    let policies = policies::Api { policies: mesh::policy::Policies::of(&*cx.registry) };
    let routes = tonic::service::Routes::new(PolicyServiceServer::new(policies));
    Ok(Assembly {
        routes,
        grpc_services: vec![policy_service_server::SERVICE_NAME],
        access: mesh::Access::new()
            .allow(policy_service_server::SERVICE_NAME, &[mesh::identity::OPERATOR]),
        tasks: Vec::new(),
        ready: Vec::new(),
    })
}
