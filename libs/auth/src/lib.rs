//! How a principal is proved, and what a role allows: the form of credentials, how they are made and how they are compared.
//!
//! Nothing here knows a store or a service: identity keeps what this makes, and the edge parses with it.

pub mod access_token;
mod api_key;
mod refresh_token;
mod role;
mod token;

pub use api_key::{ApiKey, EntropyError, KeyDigest, KeyFormatError};
pub use refresh_token::RefreshToken;
pub use role::Role;
pub use token::Token;
