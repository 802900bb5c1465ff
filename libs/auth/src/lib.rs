//! How a principal is proved, and what a role allows: the form of credentials, how they are made and how they are compared.
//!
//! Nothing here knows a store or a service: identity keeps what this makes, and the edge parses with it.

mod api_key;
mod role;

pub use api_key::{ApiKey, EntropyError, KeyDigest, KeyFormatError};
pub use role::Role;
