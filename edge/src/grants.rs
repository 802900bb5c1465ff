//! What users may do where: services are told with each call of somebody who is signed in.
//!
//! What `identity` says of a user is remembered for 30 s from its read on the primary, and dropped when the user's memberships
//! change. Who the user is was proved before: here it is only looked up.

use std::time::Duration;

use cache::Filled;
use cache::Versioned;
use http::HeaderValue;
use prost::Message as _;
use proto::common::v1 as wire;
use proto::identity::v1::GetUserGrantsRequest;
use proto::identity::v1::authentication_service_client::AuthenticationServiceClient;
use rpc::Caller;
use rpc::Error;
use rpc::Grant;
use rpc::Principal;
use rpc::SessionId;
use rpc::UserId;
use tonic::Status;
use tonic::metadata::BinaryMetadataValue;

use crate::proved::Proved;
use crate::proved::Who;

/// How long `identity` may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of `identity` is fresh, from its read on the primary.
const TTL: Duration = Duration::from_secs(30);
/// How old an answer may get while `identity` can't answer. A change is still heard of meanwhile.
const STALE_MAX: Duration = Duration::from_secs(5 * 60);
/// Users that an edge remembers.
const USERS_MAX: usize = 200_000;

/// What is known here. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Grants {
    known: Versioned<Known, Status>,
    client: AuthenticationServiceClient<mesh::Mesh>,
}

/// Of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Grants and tier: an encoded principal without its caller, to which one is only prepended.
    encoded: Vec<u8>,
    tier: wire::Tier,
}

impl Grants {
    pub(crate) fn new(metrics: &cache::Metrics, mesh: mesh::Mesh) -> Self {
        let options = cache::Options {
            name: "grants",
            ttl: TTL,
            stale_max: STALE_MAX,
            entries_max: USERS_MAX,
            scope_bytes: None,
        };
        // As of keys: it stays in the process.
        Self {
            known: Versioned::new(options, None, metrics),
            client: AuthenticationServiceClient::new(mesh),
        }
    }

    /// What is known of a user whose session was proved.
    ///
    /// # Errors
    /// What `identity` fails with.
    pub(crate) async fn proved(
        &self,
        user: UserId,
        session: SessionId,
        now_micros: i64,
    ) -> Result<Proved, Status> {
        let client = self.client.clone();
        let read = move || grants(client.clone(), user, now_micros);
        let entry = self.known.get(user.as_bytes(), now_micros, read).await?;
        let encoded = encode(Caller::User { user, session }, entry.value.as_ref());
        let encoded = BinaryMetadataValue::from_bytes(&encoded);
        let metadata = HeaderValue::from_bytes(encoded.as_encoded_bytes())
            .map_err(|error| Status::from(Error::internal(&error)))?;
        let tier = entry.value.as_ref().map_or(wire::Tier::Free, |known| known.tier);
        Ok(Proved { metadata, who: Who::User(user), tier })
    }

    /// Takes notice of a change of what a user may do.
    pub(crate) fn outdate(&self, user: &[u8], version: i64, now_micros: i64) {
        if let Ok(user) = UserId::from_slice(user) {
            self.known.outdate(user.as_bytes(), version, now_micros);
        }
    }

    /// Trusts nothing that was read before now: changes since then may have been missed.
    pub(crate) fn doubt(&self, now_micros: i64) {
        self.known.doubt(now_micros);
    }
}

/// The principal of a caller of whom this is known.
fn encode(caller: Caller, known: Option<&Known>) -> Vec<u8> {
    let caller = Principal { caller, grants: Vec::new(), tier: wire::Tier::Unspecified };
    let mut encoded = caller.encode();
    // Fields of a message may come in any order, so the two are one.
    encoded.extend(known.iter().flat_map(|known| &known.encoded));
    encoded
}

async fn grants(
    mut client: AuthenticationServiceClient<mesh::Mesh>,
    user: UserId,
    now_micros: i64,
) -> Result<Filled<Known>, Status> {
    let mut request =
        tonic::Request::new(GetUserGrantsRequest { user_id: user.as_bytes().to_vec() });
    request.set_timeout(READ_TIMEOUT);
    let answer = tokio::time::timeout(READ_TIMEOUT, client.get_user_grants(request)).await;
    let answer = answer.map_err(|_| Status::from(Error::deadline_exceeded()))??.into_inner();
    Grant::read(&answer.grants).map_err(|error| Status::from(Error::internal(&error)))?;
    let read_time = answer.read_time.and_then(|time| rpc::time::from_proto("time", &time).ok());
    let tier = answer.tier();
    let encoded = wire::Principal { caller: None, grants: answer.grants, tier: answer.tier };
    Ok(Filled {
        version: answer.version,
        read_micros: read_time.map_or(now_micros, jiff::Timestamp::as_microsecond),
        value: Some(Known { encoded: encoded.encode_to_vec(), tier }),
    })
}

impl cache::Stored for Known {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&i32::from(self.tier).to_be_bytes());
        into.extend_from_slice(&self.encoded);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tier, encoded) = bytes.split_first_chunk()?;
        let tier = wire::Tier::try_from(i32::from_be_bytes(*tier)).ok()?;
        Some(Self { encoded: encoded.to_vec(), tier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rpc::Permissions;
    use rpc::WorkspaceId;

    #[test]
    fn a_caller_and_what_is_known_of_it_are_one_principal() {
        let grants = [wire::Scope::LinksRead, wire::Scope::LinksWrite].map(|scope| Grant {
            workspace: WorkspaceId::new(),
            permissions: Permissions::of(&[scope]),
        });
        let known = wire::Principal {
            caller: None,
            grants: grants.iter().map(Grant::to_proto).collect(),
            tier: wire::Tier::Premium.into(),
        };
        let known = Known { encoded: known.encode_to_vec(), tier: wire::Tier::Premium };
        let caller = Caller::User { user: UserId::new(), session: SessionId::new() };
        let expected = Principal { caller, grants: grants.to_vec(), tier: wire::Tier::Premium };
        assert_eq!(Principal::decode(&encode(caller, Some(&known))), Ok(expected));
        let nobody = Principal::decode(&encode(caller, None)).expect("it is a principal");
        assert_eq!((nobody.caller, nobody.grants.len()), (caller, 0));
    }
}
