//! Whom a call is made for, as those peers say it that may.

use crate::identity::OPERATOR;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use http::HeaderMap;
use http::HeaderName;
use rpc::Caller;
use rpc::Principal;
use tonic::metadata::MetadataMap;

/// The services that prove who a call is made for. Nobody else's word counts.
const MAY_ASSERT_PRINCIPAL: [&str; 2] = ["edge", OPERATOR];

/// The header, as a name: a text would be parsed at each look.
static NAME: HeaderName = HeaderName::from_static(Principal::METADATA_KEY);

/// Takes the principal out of the metadata: a handler finds it in the extensions, proved, or nowhere. An operator who names nobody
/// calls in person.
pub(super) fn take(
    headers: &mut HeaderMap,
    peer: &PeerIdentity,
) -> Result<Option<Principal>, rpc::Error> {
    if !headers.contains_key(&NAME) {
        return Ok((peer.role == Role::Admin).then(Principal::operator));
    }
    // A viewer looks at the mesh, not at what is the tenants'.
    if !MAY_ASSERT_PRINCIPAL.contains(&peer.service.as_str()) || peer.role == Role::Viewer {
        let mut error = rpc::Error::peer_not_allowed(peer.service.as_str());
        error.message = format!("`{peer}` may not say who a call is made for");
        return Err(error);
    }
    let mut metadata = MetadataMap::from_headers(std::mem::take(headers));
    let principal = one(&metadata);
    metadata.remove_bin(Principal::METADATA_KEY);
    *headers = metadata.into_headers();
    let principal = principal?;
    // The edge proves clients, and no client is an operator.
    if principal.caller == Caller::Operator && peer.role != Role::Admin {
        let mut error = rpc::Error::peer_not_allowed(peer.service.as_str());
        error.message = format!("`{peer}` is no operator");
        return Err(error);
    }
    Ok(Some(principal))
}

fn one(metadata: &MetadataMap) -> Result<Principal, rpc::Error> {
    let wrong =
        |what: &str| rpc::Error::malformed(format!("`{}`: {what}", Principal::METADATA_KEY));
    let mut values = metadata.get_all_bin(Principal::METADATA_KEY).into_iter();
    let value = values.next().ok_or_else(|| wrong("is empty"))?;
    if values.next().is_some() {
        return Err(wrong("must be there once"));
    }
    let bytes = value.to_bytes().map_err(|_| wrong("is not base64"))?;
    Principal::decode(&bytes)
}
