//! The edge: one listener for redirects, REST, gRPC-Web and gRPC.

mod config;

pub use config::Config;

/// The service's name in the mesh and in the configuration.
pub const NAME: &str = "edge";

/// Opens what the edge needs, and says what it runs.
///
/// # Errors
/// If the configuration is wrong, or the spool or the database of places can't be opened.
pub async fn assemble(config: Config, cx: service::Context) -> anyhow::Result<service::Assembly> {
    let _ = (config, cx);
    todo!()
}
