//! The three gRPC services: decode into domain types, let the store decide, encode.

mod domains;
mod links;
mod parse;
mod resolver;

use pg::requests::Request;
use proto::common::v1::ErrorReason;
use rpc::WorkspaceId;
use uuid::Uuid;

use crate::domain::{Error, Violation};
use crate::store::{Failure, Store};
use crate::wire::Origin;

/// What a request to LinksService measures at most, in bytes: 10,000 links of some 3 KB.
pub(crate) const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// All of the service's calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    store: Store,
    origin: Origin,
}

impl Api {
    pub(crate) fn new(store: Store, origin: Origin) -> Self {
        Self { store, origin }
    }
}

/// A request id with what it stands for.
fn identified(workspace: WorkspaceId, id: Uuid, fingerprint: &[u8; 32]) -> Request<'_> {
    Request { workspace: workspace.uuid(), id, fingerprint }
}

/// The one place where a domain's error becomes the wire's. `message` is the field of the request that holds what the
/// error's field belongs to, such as `link`; empty for fields of the request itself.
fn refusal(message: &str, error: Error) -> rpc::Error {
    match error {
        Error::Invalid(violation) => invalid(message, &violation),
        Error::NotFound(name) => rpc::Error::not_found(name),
        Error::SlugTaken { host, slug } => {
            rpc::Error::already_exists("link.slug", format_args!("{host}/{slug}"))
        }
        Error::DomainTaken(host) => rpc::Error::already_exists("domain.host", host),
        Error::DomainHasLinks(host) => rpc::Error::state_conflict(format!(
            "the domain `{host}` still has links; delete them first"
        )),
        Error::EtagMismatch => rpc::Error::etag_mismatch(),
        Error::RequestIdReused => rpc::Error::request_id_reused(),
    }
}

fn invalid(message: &str, violation: &Violation) -> rpc::Error {
    let Violation { field, why } = violation;
    match message {
        "" => rpc::Error::invalid(*field, why),
        message => rpc::Error::invalid(format!("{message}.{field}"), why),
    }
}

/// The wire's error of a failed call; what the caller can't act on is logged here, once.
fn failed(message: &str, failure: Failure) -> rpc::Error {
    match failure {
        Failure::Domain(error) => refusal(message, error),
        Failure::Corrupt(what) => rpc::Error::internal(&what),
        Failure::Database(error) => match pg::Failure::of(&error) {
            pg::Failure::Unavailable => {
                tracing::warn!(error = %error, "store unavailable");
                rpc::Error::unavailable(
                    ErrorReason::StoreUnavailable,
                    "the store of links does not answer; try again",
                )
            }
            pg::Failure::UniqueViolation { .. }
            | pg::Failure::BadData { .. }
            | pg::Failure::Other => rpc::Error::internal(&error),
        },
    }
}

/// Decodes a response that was kept under a request id.
fn replayed<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, rpc::Error> {
    M::decode(bytes).map_err(|error| rpc::Error::internal(&error))
}
