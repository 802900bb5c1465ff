//! Control: what the mesh as a whole is told. It issues certificates and takes policies.
//!
//! It keeps nothing but what is in the registry, so any instance answers any call; and nothing waits for it while a call
//! is made: without control the mesh goes on with what it was told last.

mod config;

use service::Assembly;
use service::Context;

pub use config::Config;

/// The service's name: of its identity and its configuration section.
pub const NAME: &str = "control";

/// Opens what the service needs. The registry may be away.
pub async fn assemble(config: Config, _cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    Ok(Assembly {
        routes: tonic::service::Routes::default(),
        grpc_services: Vec::new(),
        access: mesh::Access::new(),
        tasks: Vec::new(),
        ready: Vec::new(),
    })
}
