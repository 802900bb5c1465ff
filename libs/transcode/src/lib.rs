//! REST and JSON to protobuf wire and back, from descriptors alone: the route table is built from `google.api.http`, and each
//! message becomes tables that turn JSON into wire bytes and wire bytes into JSON, token by token.
//!
//! Pure: no I/O, and nothing of Linkmesh is known here. A caller
//! 1. builds a [`RouteTable`] once from a descriptor pool, which refuses bad templates and routes that clash,
//! 2. asks [`RouteTable::find`] which method a request is for,
//! 3. makes the method's message with [`Match::request`], or those of a client's stream with [`Match::incoming`], and what a client
//!    gets of its answer with [`Match::response`] (the messages of a stream are put together by [`Framing`]),
//! 4. turns what went wrong into a [`Problem`].
//!
//! [`RouteTable::openapi`] describes the table, with the limits that fields state ([`Limits`]). Who needs JSON alone has a [`Schema`]. What a path binds is never changed by query or body: [`Match::request`] refuses such a
//! request. No input makes any of it panic.

mod accept;
mod check;
mod cutter;
mod error;
mod etag;
mod framing;
mod incoming;
mod lexer;
mod limits;
mod mask;
mod names;
mod number;
mod openapi;
mod path;
mod problem;
mod query;
mod request;
mod required;
mod response;
mod route;
mod rule;
mod scan;
mod schema;
mod table;
mod template;
mod time;
mod to_json;
mod to_wire;
mod tree;
mod wire;

pub use error::JsonError;
pub use error::TranscodeError;
pub use error::Violation;
pub use framing::Framing;
pub use incoming::Incoming;
pub use limits::Limits;
pub use limits::TextFormat;
pub use limits::is_one_required;
pub use openapi::About;
pub use openapi::Access;
pub use problem::ErrorForm;
pub use problem::Problem;
pub use problem::http_status;
pub use request::RequestParts;
pub use response::Reply;
pub use route::Idempotency;
pub use route::Route;
pub use route::idempotency;
pub use schema::MessageType;
pub use schema::Schema;
pub use table::Lookup;
pub use table::Match;
pub use table::Options;
pub use table::RouteError;
pub use table::RouteTable;
pub use to_json::WriteOptions;
pub use to_wire::ReadOptions;
