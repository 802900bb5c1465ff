//! Who gets which certificate, by what proof.

mod authority;
mod grpc;
mod jwks;
mod kubernetes;
mod metrics;
mod tokens;

pub(crate) use authority::Authority;
pub(crate) use grpc::Admin;
pub(crate) use grpc::Issuance;
pub(crate) use grpc::Join;
pub(crate) use grpc::Renewal;
pub(crate) use jwks::Source;
pub(crate) use kubernetes::Kubernetes;
pub(crate) use metrics::Metrics;
pub(crate) use tokens::Tokens;
