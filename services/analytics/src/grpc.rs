//! The three gRPC services: decode into domain types, ask, encode.

mod aggregator;
mod breakdown;
mod clicks;
mod range;
mod salts;
mod watch;

pub(crate) use aggregator::AggregatorApi;
pub(crate) use clicks::AnalyticsApi;
pub(crate) use salts::SaltsApi;

use proto::common::v1::ErrorReason;

use crate::store;

/// The wire's error of a failed read or write; what the caller can't act on is logged here, once.
fn failed(error: &store::Error) -> rpc::Error {
    match error {
        store::Error::Unavailable(detail) => {
            tracing::warn!(detail, "the store is unavailable");
            rpc::Error::unavailable(ErrorReason::StoreUnavailable, "the store does not answer")
        }
        store::Error::Refused { .. } | store::Error::Damaged(_) | store::Error::Broken(_) => {
            rpc::Error::internal(error)
        }
    }
}
