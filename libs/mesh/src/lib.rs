//! Finds the instances of a service and calls them well; on the other side, lets in only who may call.
//!
//! [`Mesh`] is the channel to everything: a gRPC path already names its service. [`registry`] is where instances say
//! that they are there, [`identity`] is who they are, [`server`] is where they are called.

mod backoff;
mod channel;
mod criticality;
mod described;
mod descriptors;
mod etcd;
mod file;
pub mod gcra;
mod http2;
pub mod identity;
mod inherited;
mod instance_probe;
mod methods;
mod metrics;
pub mod policy;
pub mod registry;
pub mod server;
mod traits;
mod within;

pub use channel::Body;
pub use channel::EndpointState;
pub use channel::EndpointView;
pub use channel::Mesh;
pub use channel::MeshOptions;
pub use channel::MeshView;
pub use channel::RouteView;
pub use channel::ServiceRoutesView;
#[cfg(feature = "bench")]
pub use channel::bench;
pub use channel::reach;
pub use descriptors::describe;
pub use identity::Identity;
pub use identity::LocalAuthority;
pub use identity::PeerIdentity;
pub use metrics::CallStats;
pub use metrics::Latency;
pub use metrics::LatencyBucket;
pub use registry::Registration;
pub use registry::Registry;
pub use server::Access;
pub use server::Server;
pub use server::ServerOptions;
pub use server::ServerStats;
pub use server::Taps;
pub use server::tap;
pub use traits::MethodTraits;
