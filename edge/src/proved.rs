//! Who was proved to call: by an API key, or by an access token and what `identity` says of its user.

use http::HeaderValue;
use proto::common::v1::Tier;
use rpc::ApiKeyId;
use rpc::UserId;

/// A caller, as services get it and as its requests are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proved {
    /// The value of `linkmesh-principal-bin`.
    pub(crate) metadata: HeaderValue,
    pub(crate) who: Who,
    pub(crate) tier: Tier,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Each key for itself, of one service account or not.
    Key(ApiKeyId),
    /// All sessions of a user.
    User(UserId),
}
