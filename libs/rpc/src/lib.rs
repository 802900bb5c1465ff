//! What crosses the wire around a message: errors, principals, deadlines, ids and names, page tokens, masks.
//!
//! Everything a service says to a caller besides its messages has its one form here, so that an error or a page token
//! looks the same from every service. Nothing here opens a connection or reads a clock.

mod deadline;
mod error;
mod id;
pub mod mask;
pub mod name;
pub mod network;
pub mod page;
mod permissions;
mod principal;
pub mod request_id;
mod requirement;
pub mod time;
pub mod trace;

pub use deadline::Deadline;
pub use error::Error;
pub use error::Quota;
pub use error::Violation;
pub use id::ApiKeyId;
pub use id::Id;
pub use id::IdError;
pub use id::InvitationId;
pub use id::LinkId;
pub use id::ServiceAccountId;
pub use id::SessionId;
pub use id::UserId;
pub use id::WorkspaceId;
pub use id::kind;
pub use permissions::Permissions;
pub use principal::Caller;
pub use principal::Grant;
pub use principal::Principal;
pub use requirement::Requirement;

/// The `domain` of every `google.rpc.ErrorInfo` that Linkmesh sends.
pub const ERROR_DOMAIN: &str = "linkmesh";
