//! REST and JSON to protobuf wire and back, from descriptors alone: the route table is built from `google.api.http`.
//!
//! Pure: no I/O, and nothing of Linkmesh is known here. A caller
//! 1. builds a [`RouteTable`] once from a descriptor pool, which refuses bad templates and routes that clash,
//! 2. asks [`RouteTable::find`] which method a request is for,
//! 3. makes the method's message with [`Match::request`], and JSON of its answer with [`Match::response`],
//! 4. turns what went wrong into a [`Problem`] (RFC 9457).
//!
//! What a path binds is never changed by query or body: [`Match::request`] refuses such a request.

mod json;
mod mask;
mod message;
mod problem;
mod query;
mod request;
mod response;
mod route;
mod rule;
mod table;
mod template;
mod tree;

pub use message::from_json;
pub use message::to_json;
pub use problem::Problem;
pub use problem::http_status;
pub use request::RequestParts;
pub use request::TranscodeError;
pub use request::Violation;
pub use response::JsonError;
pub use route::Idempotency;
pub use route::Route;
pub use route::idempotency;
pub use table::Lookup;
pub use table::Match;
pub use table::Options;
pub use table::RouteError;
pub use table::RouteTable;
