//! The host that runs services in a process: configuration, telemetry, health, reflection, listeners, order of start and stop.
//!
//! A service says what it is made of ([`Assembly`]); it binds nothing and spawns nothing. [`Host`] does the rest, the same
//! for one service and for all of them, so nothing in a service depends on how it is run.

mod admin;
mod announcer;
mod assembly;
mod calls;
mod config;
pub mod duration;
mod host;
mod identity_service;
mod mesh_service;
mod metrics;
mod metrics_export;
mod readiness;
pub mod relay;
mod running;
mod served;
mod serving;
mod settings;
mod supervisor;
mod telemetry;

pub use assembly::Assembly;
pub use assembly::Condition;
pub use assembly::Context;
pub use assembly::Task;
pub use config::BusConfig;
pub use config::HostConfig;
pub use config::LogFormat;
pub use config::MeshConfig;
pub use config::ProcessConfig;
pub use host::Host;
pub use metrics::HttpMetrics;
pub use metrics::MetricsRegistry;
pub use running::Addresses;
pub use settings::ConfigError;
pub use settings::Settings;
pub use telemetry::Telemetry;
